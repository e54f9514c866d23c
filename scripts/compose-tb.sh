#!/usr/bin/env bash
# The TigerBeetle cluster of docker/docker-compose.tigerbeetle-cluster.yml: what the verbs
# compose-tb-* of the Makefile run.
#
#   scripts/compose-tb.sh VERB
#
#   init          docker/.env with a random cluster id if there is none, then build, format, up; from
#                 then on replicas format nothing by themselves (TIGERBEETLE_AUTO_FORMAT=false). Where
#                 the engine may, their memory is locked (TIGERBEETLE_MEMLOCK=-1)
#   build         the image
#   format        the data file of each replica that has none; what is there is left alone
#   up            starts the replicas and waits until all are healthy
#   down          stops and removes the containers; the data files stay in their volumes
#   down-volumes  asks, then removes the volumes too: all books are gone
#   status        the replicas with their last health checks, and the connectors on them if there are any
#   recover       asks, then gives REPLICA=<service> a new data file out of the other replicas: for one
#                 that is lost or damaged. What is there is kept as <file>.set-aside
#   logs          the last 200 lines of each container, or of CONTAINER=<service> alone; FOLLOW=1 goes on
#   backup        all replicas, stopped for a moment (backup-tigerbeetle.sh)
#   restore       all replicas, from BACKUP=<name> or the latest backup (restore-tigerbeetle.sh)
#
# -y (make: ARGS=-y) after down-volumes, recover and restore does not ask; `recover SERVICE` names the
# replica too. FILE=<compose file> takes another file.
#
# Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing, 4 not confirmed.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

file=${FILE:-docker/docker-compose.tigerbeetle-cluster.yml}
verb=${1:-}
[ $# -eq 0 ] || shift
assume_yes='' replica=${REPLICA:-}
for word in "$@"; do
  case "$verb $word" in
    'down-volumes -y' | 'down-volumes --yes' | 'recover -y' | 'recover --yes' | 'restore -y' | 'restore --yes')
      assume_yes=--yes
      ;;
    *' -h' | *' --help') usage "$word" ;;
    'recover '[!-]*) replica=$word ;;
    *) misused "$verb: unknown argument $word" ;;
  esac
done
[ "$verb" != recover ] || [ -n "$replica" ] || misused "recover: which one? recover tigerbeetle-2 (make: REPLICA=tigerbeetle-2)"

# Those of the file, whether or not they have containers.
servers() {
  COMPOSE_PROFILES='*' compose config | awk '
    /^[^ ]/ { inside = $1 == "services:" }
    inside && /^  [^ ]/ { name = $1; gsub(/[:"]/, "", name) }
    inside && /^      TIGERBEETLE_REPLICA_ID:/ { print name }' | sort
}

# shellcheck disable=SC2086 # names of services have no spaces
build() { build_images $replicas || fail "$FAILED" "the image cannot be built"; }

format() {
  local service
  for service in $replicas; do
    compose run --rm --no-deps "$service" format >&2 || fail "$FAILED" "cannot format the data file of $service"
  done
}

up() {
  # shellcheck disable=SC2086 # names of services have no spaces
  compose up -d $replicas >&2 || say "Compose could not start everything."
  # shellcheck disable=SC2086
  wait_healthy "$START_SECONDS" $replicas || fail "$FAILED" "the cluster is not up"
  say "Healthy: $(tr '\n' ' ' <<<"$replicas")"
}

# Memory that is locked is never swapped out. Rootless engines may not raise the limit that allows it, and
# start no container that asks for it: so it is tried first.
lock_memory() {
  local image
  [ -z "${TIGERBEETLE_MEMLOCK:-}$(env_value TIGERBEETLE_MEMLOCK)" ] || return 0
  image=$(compose config | awk -v service="$(head -n 1 <<<"$replicas"):" '
    /^  [^ ]/ { inside = $1 == service } inside && $1 == "image:" { print $2; exit }')
  if docker run --rm --network none --no-healthcheck --ulimit memlock=-1 --entrypoint true "$image" >/dev/null 2>&1; then
    add_to_env TIGERBEETLE_MEMLOCK=-1
    say "TIGERBEETLE_MEMLOCK=-1 is in $(env_file) now: the replicas lock their memory."
  else
    say "This engine may not raise the limit of locked memory: the replicas do not lock theirs. They do not swap either (memswap_limit)."
  fi
}

# A replica that formatted itself anew would have forgotten what it promised the others.
no_more_formatting() {
  [ -z "$(env_value TIGERBEETLE_AUTO_FORMAT)" ] || return 0
  add_to_env TIGERBEETLE_AUTO_FORMAT=false
  say "TIGERBEETLE_AUTO_FORMAT=false is in $(env_file) now: a replica that loses its data file says so."
}

recover() {
  local service others='' healthy=0 total=0 id
  grep -qx -- "$replica" <<<"$replicas" || misused "recover: $replica is no replica; there are: $(tr '\n' ' ' <<<"$replicas")"
  for service in $replicas; do
    total=$((total + 1))
    [ "$service" != "$replica" ] || continue
    others="$others $service"
    id=$(container "$service")
    [ -z "$id" ] || [ "$(state "$id")" != healthy ] || healthy=$((healthy + 1))
  done
  [ "$total" -gt 1 ] || fail "$MISSING" "a single replica has nobody to recover from: restore a backup (compose-tb.sh restore)"
  # A majority of all has what was promised.
  [ "$healthy" -gt $((total / 2)) ] || fail "$MISSING" "only $healthy of$others are healthy; $((total / 2 + 1)) are needed to recover from. Start them (up), or restore a backup"
  confirm "$replica gets a new data file out of$others; the one it has, if any, is set aside."
  compose stop "$replica" >&2 || fail "$FAILED" "$replica cannot be stopped"
  compose run --rm --no-deps "$replica" set-aside >&2 || fail "$FAILED" "the data file of $replica cannot be set aside"
  compose run --rm --no-deps "$replica" recover >&2 || fail "$FAILED" "$replica cannot be recovered; it stays stopped"
  compose up -d --no-deps "$replica" >&2 || fail "$FAILED" "$replica does not start"
  wait_healthy "$START_SECONDS" "$replica" || fail "$FAILED" "$replica is not healthy"
  wait_caught_up "$START_SECONDS" "$replica" || fail "$FAILED" "$replica runs, but is behind the others: see its log"
  say "$replica is recovered and healthy. When all is well, remove the file that was set aside, if there was one:"
  say "  docker exec $(container "$replica" | cut -c1-12) sh -c 'rm -f /data/*.set-aside'"
}

status() {
  [ -z "$(connectors)" ] || exec scripts/docker-network-status.sh -f "$file"
  local service id now result=0
  printf '%-16s %-11s %-21s %-18s %s\n' SERVICE STATE STARTED ADDRESS 'LAST CHECKS'
  for service in $replicas; do
    id=$(container "$service")
    if [ -z "$id" ]; then
      printf '%-16s %s%-11s%s\n' "$service" "$bad" missing "$end"
      result=$FAILED
      continue
    fi
    now=$(state "$id")
    [ "$now" = healthy ] || result=$FAILED
    printf '%-16s %s%-11s%s %-21s %-18s %s\n' "$service" "$([ "$now" = healthy ] && printf %s "$good" || printf %s "$bad")" \
      "$now" "$end" "$(short_time "$(docker inspect -f '{{.State.StartedAt}}' "$id")")" \
      "$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id")" "$(last_checks "$id")"
  done
  exit "$result"
}

case $verb in
  init | build | format | up | down | down-volumes | status | logs | recover | backup | restore) ;;
  '') misused "a verb is needed: init, build, format, up, down, down-volumes, status, logs, recover, backup or restore" ;;
  *) misused "unknown verb $verb" ;;
esac
need_docker
[ "$verb" != init ] || make_env
need_stack
replicas=$(servers)
[ -n "$replicas" ] || fail "$MISSING" "$(basename "$file") has no service with TIGERBEETLE_REPLICA_ID"

case $verb in
  init) build && lock_memory && format && up && no_more_formatting ;;
  build) build ;;
  format) format ;;
  up) up ;;
  down) COMPOSE_PROFILES='*' compose down >&2 || fail "$FAILED" "not everything was stopped" ;;
  down-volumes)
    confirm "The volumes of $(tr '\n' ' ' <<<"$replicas")go, and with them all books (backups stay)."
    COMPOSE_PROFILES='*' compose down -v >&2 || fail "$FAILED" "not everything was removed"
    ;;
  status) status ;;
  recover) recover ;;
  logs)
    options=(--tail 200)
    [ -z "${FOLLOW:-}" ] || options+=(-f)
    [ -z "${CONTAINER:-}" ] || grep -qx -- "$CONTAINER" <<<"$all_services" ||
      misused "CONTAINER=$CONTAINER: there is no such service; there are: $(tr '\n' ' ' <<<"$all_services")"
    compose logs "${options[@]}" ${CONTAINER:+"$CONTAINER"}
    ;;
  backup) exec scripts/backup-tigerbeetle.sh -f "$file" ;;
  restore) exec scripts/restore-tigerbeetle.sh "${BACKUP:-latest}" -f "$file" ${assume_yes:+"$assume_yes"} ;;
esac
