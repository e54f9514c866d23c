#!/usr/bin/env bash
# Sends real packets through the running containers of a compose file and checks what came of them:
# every one fulfilled, the books of the first and of the last node moved by what was sent, both
# sides of every link mirror, the audit holds, and no log has a line of level error. For a network
# that nobody else uses meanwhile: other packets would move the same books.
#
#   scripts/docker-test-packet-flow.sh [-f FILE] [-n COUNT] [-a AMOUNT] [-w WINDOW] [--from SERVICE] [--to SERVICE]
#
#   -f, --file FILE      compose file (default: docker-compose-5-peer-multihop.yml)
#   -n, --count COUNT    packets (default: 100)
#   -a, --amount AMOUNT  of each, in the smallest unit (default: 1000)
#   -w, --window WINDOW  how many at once (default: 10)
#   --from SERVICE       where they come in: a connector with a peer `sender` (default: the first such one)
#   --to SERVICE         the connector they are for (default: the last one)
#
# Exit codes: 0 all of that, 1 something of it not, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

count=100 amount=1000 window=10 from='' to=''
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -n | --count) number_of "$1" "${2:-}" && count=$value && shift ;;
    -a | --amount) number_of "$1" "${2:-}" && amount=$value && shift ;;
    -w | --window) number_of "$1" "${2:-}" && window=$value && shift ;;
    --from) value_of "$1" "${2:-}" && from=$value && shift ;;
    --to) value_of "$1" "${2:-}" && to=$value && shift ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done
[ "$window" -le 5000 ] || misused "--window can be 5000 at most"

need_stack
nodes=$(connectors)
[ -n "$nodes" ] || fail "$MISSING" "no connector of $(basename "$file") has a container in project $project; bring it up first"
for service in $from $to; do
  grep -qx -- "$service" <<<"$nodes" || misused "$service is no connector; there are: $(tr '\n' ' ' <<<"$nodes")"
done

# The log-in of a sender is that of the peer `sender`, which the first node of a topology has.
may_send() { [ -n "$(variable "$1" BTP_PEER_SENDER_SECRET)$(variable "$1" BTP_PEER_SENDER_SECRET_FILE)" ]; }
if [ -z "$from" ]; then
  for service in $nodes; do
    if may_send "$(container "$service")"; then
      from=$service
      break
    fi
  done
  [ -n "$from" ] || fail "$MISSING" "no connector has a peer \`sender\` (BTP_PEER_SENDER_SECRET) to send as"
fi
first=$(need_container "$from")
may_send "$first" || fail "$MISSING" "$from has no peer \`sender\` (BTP_PEER_SENDER_SECRET) to send as; choose another --from"
if [ -z "$to" ]; then
  to=$(tail -n 1 <<<"$nodes")
  [ "$to" != "$from" ] || to=$(grep -vx -- "$from" <<<"$nodes" | tail -n 1)
fi
last=$(need_container "$to")
destination=$(variable "$last" ILP_ADDRESS)
last_node=$(variable "$last" NODE_ID) first_node=$(variable "$first" NODE_ID)
[ -n "$destination" ] || fail "$MISSING" "$to has no ILP_ADDRESS"

failures=0
check() { # check NAME STATUS DETAILS
  if [ "$2" -eq 0 ]; then
    printf '%sok%s    %s\n' "$good" "$end" "$1"
  else
    printf '%sFAIL%s  %s%s\n' "$bad" "$end" "$1" "${3:+: $3}"
    failures=$((failures + 1))
  fi
}

# All nodes' own words, once nothing is held for packets in flight, or as they are after 15 s.
at_rest() {
  local said deadline=$((SECONDS + 15))
  while :; do
    # shellcheck disable=SC2086 # names of services have no spaces
    said=$(ask_nodes $nodes) || return 1
    if ! awk -F '\t' '$1 == "account" && ($8 != "0" || $9 != "0") { held = 1 } END { exit !held }' <<<"$said" ||
      [ "$SECONDS" -ge "$deadline" ]; then
      printf '%s\n' "$said"
      return
    fi
    sleep 0.3
  done
}

# sum_of LINES NODE FIELD [PEER]: over the accounts of a node.
sum_of() {
  local kind node peer debit credit rest sum=0
  while IFS=$'\t' read -r kind node peer _ debit credit rest; do
    [ "$kind $node" = "account $2" ] || continue
    [ -z "${4:-}" ] || [ "$peer" = "$4" ] || continue
    case $3 in debit) sum=$((sum + debit)) ;; *) sum=$((sum + credit)) ;; esac
  done <<<"$1"
  printf '%s\n' "$sum"
}

before=$(at_rest) || fail "$FAILED" "not every node answers; scripts/docker-network-status.sh says more"
say "Sending $count packets of $amount from $from to $to ($destination), $window at once ..."
sent=0
# The token goes through the environment of a process in the container: no list of processes shows it.
# shellcheck disable=SC2016 # expanded in the container
docker exec "$first" sh -c '
  secret=${BTP_PEER_SENDER_SECRET:-}
  [ -n "$secret" ] || secret=$(cat "$BTP_PEER_SENDER_SECRET_FILE")
  export CONNECTOR_AUTH="sender:$secret"
  exec python -m connector send --url "ws://127.0.0.1:${BTP_SERVER_PORT:-3000}" "$@"' sh \
  --destination "$destination" --count "$count" --amount "$amount" --window "$window" || sent=$?
after=$(at_rest) || fail "$FAILED" "not every node answers after the packets; scripts/docker-network-status.sh says more"

printf '\n'
mirrored=0
print_links <<<"$after" || mirrored=$?
printf '\n'

total=$((count * amount))
owed=$(($(sum_of "$after" "$first_node" debit sender) - $(sum_of "$before" "$first_node" debit sender)))
came=$(($(sum_of "$after" "$last_node" debit) - $(sum_of "$before" "$last_node" debit)))
check "$count of $count packets fulfilled" "$sent" "see above"
check "$first_node debited its sender $total" "$((owed != total))" "it was $owed"
# Fees on the way may take a part of it.
check "$last_node received ${came} from its peers" "$((came <= 0 || came > total))" "expected up to $total"
check "both sides of every link mirror" "$mirrored"

list=$(tr '\n' ',' <<<"$nodes" | sed 's/,$//')
ids=$(for service in $nodes; do variable "$(container "$service")" NODE_ID; done | tr '\n' ',' | sed 's/,$//')
if [ -n "$(variable "$first" TIGERBEETLE_CLUSTER_ID)" ]; then
  verdict=$(docker exec "$first" python -m connector audit --nodes "$ids" 2>&1) && audited=0 || audited=$?
  check "audit over $list" "$audited" "$(grep -v '^ok' <<<"$verdict" || true)"
else
  for service in $nodes; do
    verdict=$(docker exec "$(container "$service")" python -m connector audit 2>&1) && audited=0 || audited=$?
    check "audit of $service" "$audited" "$(grep -v '^ok' <<<"$verdict" || true)"
  done
fi

for service in $all_services; do
  id=$(container "$service")
  [ -n "$id" ] || continue
  # A TigerBeetle that was built from source says of itself that it cannot upgrade: no fault.
  errors=$(docker logs "$id" 2>&1 | grep -E '"level": ?"(error|critical)"|^[^ ]+ [^ ]+ error\(' |
    grep -v 'error(multiversioning)' | cut -c1-300 || true)
  [ -z "$errors" ] || check "no error in the log of $service" 1 "$errors"
done

if [ "$failures" -gt 0 ]; then
  say "$failures checks failed."
  exit "$FAILED"
fi
say "All checks passed."
