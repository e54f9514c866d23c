#!/usr/bin/env bash
# The network of docker-compose-5-peer-multihop.yml: five connectors in a line, their accounts in one
# TigerBeetle.
#
#   scripts/deploy-5-peer-multihop.sh VERB
#
#   up [--no-build] [-t SECONDS]  makes .env with random secrets if there is none, builds, starts
#                                 (TigerBeetle first), waits until all are healthy (default: 120 s)
#   status                        containers, nodes, both sides of every link (docker-network-status.sh)
#   test [-n COUNT] ...           packets through all five, balances, audit (docker-test-packet-flow.sh)
#   down                          stops and removes the containers; the books stay in their volume
#   clean [-y]                    asks, then removes the volumes too: all books are gone
#
# FILE=<compose file> takes another file with the same services.
#
# Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing, 4 not confirmed.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

file=${FILE:-$LINE_FILE}
readonly BOOKS=tigerbeetle-5peer-data
# TigerBeetle takes 2.5 GiB with the grid cache of the compose file, the five connectors the rest.
readonly MEMORY_MIB_MIN=3500

# books: the volume of that name, as the engine knows it; another file may call it otherwise.
books() {
  local name
  name=$(compose config | awk -v key="$BOOKS:" '/^[^ ]/ { inside = $1 == "volumes:" }
    inside && /^  [^ ]/ { found = $1 == key } inside && found && $1 == "name:" { print $2; exit }')
  printf '%s\n' "${name:-$BOOKS}"
}

up() {
  local build=yes seconds=120 began built memory
  while [ $# -gt 0 ]; do
    case $1 in
      --no-build) build='' ;;
      -t | --timeout) number_of "$1" "${2:-}" && seconds=$value && shift ;;
      *) misused "up: unknown argument $1" ;;
    esac
    shift
  done
  need_docker
  if [ -z "${FILE:-}" ] && [ ! -e "$(env_file)" ] && [ -z "${TIGERBEETLE_CLUSTER_ID:-}" ] && docker volume inspect "$BOOKS" >/dev/null 2>&1; then
    fail "$MISSING" "the volume $BOOKS holds the books of an earlier network, but its $(env_file) is gone, and with it the cluster's id: put that file back, or remove the books: docker volume rm $BOOKS"
  fi
  make_env
  need_stack
  memory=$(($(docker info --format '{{.MemTotal}}') / 1048576))
  [ "$memory" -ge "$MEMORY_MIB_MIN" ] ||
    say "The engine has $memory MiB of memory; under $MEMORY_MIB_MIN, TigerBeetle may be killed (exit code 137)."
  began=$SECONDS
  if [ -n "$build" ]; then
    # shellcheck disable=SC2119 # without arguments: all images
    build_images || fail "$FAILED" "the images cannot be built"
    say "Built in $((SECONDS - began)) s."
  fi
  built=$SECONDS
  start_all "$seconds" || fail "$FAILED" "the network is not up; its containers are left as they are, to look at"
  say "All healthy $((SECONDS - built)) s after the build. Started:"
  for service in $all_services; do
    printf '  %s  %s\n' "$(docker inspect -f '{{.State.StartedAt}}' "$(container "$service")")" "$service" >&2
  done | sort >&2
  say "Next: $0 test; pages and API on http://127.0.0.1:9080 to :9084, with ADMIN_API_KEY of .env as the key."
}

down() {
  [ $# -eq 0 ] || misused "down takes no argument"
  need_stack
  COMPOSE_PROFILES='*' compose down >&2 || fail "$FAILED" "not everything was stopped"
  say "Stopped. The books are in the volume $(books); 'up' goes on with them."
}

clean() {
  local volume
  case "${1:-}" in
    '') assume_yes='' ;;
    -y | --yes) assume_yes=yes ;;
    *) misused "clean: unknown argument $1" ;;
  esac
  need_stack
  volume=$(books)
  confirm "All containers and volumes of project $project go, and with $volume all books (backups and .env stay)."
  COMPOSE_PROFILES='*' compose down -v >&2 || fail "$FAILED" "not everything was removed"
  ! docker volume inspect "$volume" >/dev/null 2>&1 || fail "$FAILED" "the volume $volume is still there; who uses it? docker ps -a --filter volume=$volume"
  say "Removed, the volume $volume too."
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
  up) up "$@" ;;
  status) exec scripts/docker-network-status.sh -f "$file" "$@" ;;
  test) exec scripts/docker-test-packet-flow.sh -f "$file" --from peer1 --to peer5 "$@" ;;
  down) down "$@" ;;
  clean) clean "$@" ;;
  '') misused "a verb is needed: up, status, test, down or clean" ;;
  *) misused "unknown verb $verb" ;;
esac
