#!/usr/bin/env bash
# The TigerBeetle cluster of docker/docker-compose.tigerbeetle-cluster.yml: what the verbs
# compose-tb-* of the Makefile run.
#
#   scripts/compose-tb.sh VERB
#
#   init          docker/.env with a random cluster id if there is none, then build, format, up
#   build         the image
#   format        the data file of each replica that has none; what is there is left alone
#   up            starts the replicas and waits until all are healthy
#   down          stops and removes the containers; the data files stay in their volumes
#   down-volumes  asks, then removes the volumes too: all books are gone
#   status        the replicas, and the connectors on them if there are any
#   logs          the last 200 lines of each container, or of CONTAINER=<service> alone; FOLLOW=1 goes on
#   backup        all replicas, stopped for a moment (backup-tigerbeetle.sh)
#   restore       all replicas, from BACKUP=<name> or the latest backup (restore-tigerbeetle.sh)
#
# -y after down-volumes and restore does not ask. FILE=<compose file> takes another file.
#
# Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing, 4 not confirmed.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

file=${FILE:-docker/docker-compose.tigerbeetle-cluster.yml}
readonly START_SECONDS=90
verb=${1:-}
assume_yes=''
case "$verb ${2:-}" in
  'down-volumes -y' | 'down-volumes --yes' | 'restore -y' | 'restore --yes') assume_yes=--yes ;;
  *' -h' | *' --help') usage "$2" ;;
  *' ') ;;
  *) misused "$verb: unknown argument $2" ;;
esac
[ $# -le 2 ] || misused "$verb: unknown argument $3"

# Those of the file, whether or not they have containers.
servers() {
  COMPOSE_PROFILES='*' compose config | awk '
    /^[^ ]/ { inside = $1 == "services:" }
    inside && /^  [^ ]/ { name = $1; gsub(/[:"]/, "", name) }
    inside && /^      TIGERBEETLE_REPLICA_ID:/ { print name }' | sort
}

build() { compose build >&2 || fail "$FAILED" "the image cannot be built"; }

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

status() {
  [ -z "$(connectors)" ] || exec scripts/docker-network-status.sh -f "$file"
  local service id now result=0
  printf '%-16s %-11s %-21s %s\n' SERVICE STATE STARTED ADDRESS
  for service in $replicas; do
    id=$(container "$service")
    if [ -z "$id" ]; then
      printf '%-16s %s%-11s%s\n' "$service" "$bad" missing "$end"
      result=$FAILED
      continue
    fi
    now=$(state "$id")
    [ "$now" = healthy ] || result=$FAILED
    printf '%-16s %s%-11s%s %-21s %s\n' "$service" "$([ "$now" = healthy ] && printf %s "$good" || printf %s "$bad")" \
      "$now" "$end" "$(short_time "$(docker inspect -f '{{.State.StartedAt}}' "$id")")" \
      "$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id")"
  done
  exit "$result"
}

case $verb in
  init | build | format | up | down | down-volumes | status | logs | backup | restore) ;;
  '') misused "a verb is needed: init, build, format, up, down, down-volumes, status, logs, backup or restore" ;;
  *) misused "unknown verb $verb" ;;
esac
need_docker
[ "$verb" != init ] || make_env
need_stack
replicas=$(servers)
[ -n "$replicas" ] || fail "$MISSING" "$(basename "$file") has no service with TIGERBEETLE_REPLICA_ID"

case $verb in
  init) build && format && up ;;
  build) build ;;
  format) format ;;
  up) up ;;
  down) COMPOSE_PROFILES='*' compose down >&2 || fail "$FAILED" "not everything was stopped" ;;
  down-volumes)
    confirm "The volumes of $(tr '\n' ' ' <<<"$replicas")go, and with them all books (backups stay)."
    COMPOSE_PROFILES='*' compose down -v >&2 || fail "$FAILED" "not everything was removed"
    ;;
  status) status ;;
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
