#!/usr/bin/env bash
# What runs of a compose file: containers and their health with the last checks (UTC), nodes and their
# links, both sides of every balance, and the addresses on the network.
#
#   scripts/docker-network-status.sh [-f FILE]
#
#   -f, --file FILE   compose file (default: docker-compose-5-peer-multihop.yml)
#
# Exit codes: 0 all is healthy and every link mirrors, 1 not so, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done

need_stack
result=0

printf '%-14s %-20s %-11s %-21s %-18s %-40s %s\n' SERVICE CONTAINER STATE STARTED ADDRESS 'LAST CHECKS' 'PORTS ON THIS HOST'
for service in $all_services; do
  id=$(container "$service")
  if [ -z "$id" ]; then
    printf '%-14s %-20s %s%-11s%s\n' "$service" - "$bad" missing "$end"
    result=$FAILED
    continue
  fi
  now=$(state "$id")
  colour=$good
  case $now in
    healthy | running) ;;
    *)
      if job_done "$id"; then
        colour=$dim
      else
        colour=$bad result=$FAILED
      fi
      ;;
  esac
  name=$(docker inspect -f '{{.Name}}' "$id")
  address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id")
  ports=$(docker port "$id" 2>/dev/null | awk '$3 !~ /^\[/ { sub(/\/tcp/, "", $1); printf "%s->%s ", $3, $1 }' || true)
  printf '%-14s %-20s %s%-11s%s %-21s %-18s %-40s %s\n' "$service" "${name#/}" "$colour" "$now" "$end" \
    "$(short_time "$(docker inspect -f '{{.State.StartedAt}}' "$id")")" "${address:--}" "$(last_checks "$id")" "${ports:--}"
done

running=()
nodes=$(connectors)
for service in $nodes; do
  ! is_running "$(container "$service")" || running+=("$service")
done
if [ ${#running[@]} -eq 0 ]; then
  say "No connector is running."
  exit "$FAILED"
fi

said=$(ask_nodes "${running[@]}") || result=$FAILED
printf '\n'
print_nodes <<<"$said"
printf '\n'
print_links <<<"$said" || result=$FAILED
exit "$result"
