#!/usr/bin/env bash
# Builds the images anew and replaces the containers that run an old one, or another configuration,
# one after the other, each healthy before the next: the rest of the network goes on meanwhile.
# Volumes stay, and so do books.
#
# A replica of a TigerBeetle cluster has to catch up with the others before the next is replaced, and none
# is while another one is not healthy: a majority has to be there all the time.
#
# A connector is drained first (SIGUSR2): it answers what it has in flight and says that it will be
# back. Peers with packet ids hold new packets until it is, for 30 s at most, so that replacing it costs
# none of them a packet; other senders get T01 meanwhile.
#
#   scripts/docker-rebuild.sh [-f FILE] [--no-build] [--no-cache] [--restart] [-t SECONDS] [SERVICE...]
#
#   -f, --file FILE        compose file (default: docker-compose-5-peer-multihop.yml)
#   --no-build             replace by the images that are there, pulled ones for example
#   --no-cache             build from nothing
#   --restart              also where neither image nor configuration has changed
#   -t, --timeout SECONDS  how long a container may take to be healthy (default: 60)
#   SERVICE                which to replace (default: all that have a container)
#
# Exit codes: 0 done, 1 a build failed or a container is not healthy, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

readonly DRAIN_SECONDS_MAX=15
seconds=60 chosen='' build=yes restart='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -t | --timeout) number_of "$1" "${2:-}" && seconds=$value && shift ;;
    --no-build) build='' ;;
    --no-cache) options+=("$1") ;;
    --restart) restart=yes ;;
    -h | --help) usage "$1" ;;
    -*) misused "unknown option $1" ;;
    *) chosen="$chosen $1" ;;
  esac
  shift
done

# is_current SERVICE ID: whether the container runs the image and the configuration that it should.
is_current() {
  local image wanted had
  image=$(docker inspect -f '{{.Config.Image}}' "$2")
  wanted=$(docker image inspect -f '{{.Id}}' "$image") || fail "$FAILED" "$1: there is no image $image"
  [ "$(docker inspect -f '{{.Image}}' "$2")" = "$wanted" ] || return 1
  wanted=$(COMPOSE_PROFILES='*' compose config --hash "$1" 2>/dev/null | awk '{ print $2 }') || wanted=''
  had=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.config-hash"}}' "$2")
  [ -z "$wanted" ] || [ "$wanted" = "$had" ]
}

# drain ID: ends a connector so that its peers wait for the next one. An older one does not know how.
drain() {
  local deadline=$((SECONDS + DRAIN_SECONDS_MAX))
  docker exec "$1" ilp-connector run --help 2>/dev/null | grep SIGUSR2 >/dev/null || return 0
  docker kill --signal=USR2 "$1" >/dev/null 2>&1 || return 0
  while is_running "$1" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
}

# others_are_there REPLICA: of a cluster, all the others are healthy and have caught up.
others_are_there() {
  local other id
  for other in $(replicas); do
    [ "$other" != "$1" ] || continue
    id=$(container "$other")
    [ "$(state "$id")" = healthy ] ||
      fail "$FAILED" "$other is $(state "$id"): to replace $1 now could stop the ledger. Mend $other first (compose-tb.sh up, compose-tb.sh recover)"
    wait_caught_up "$seconds" "$other" || fail "$FAILED" "$other is behind: $1 was not replaced"
  done
}

need_stack
for service in $chosen; do
  grep -qx -- "$service" <<<"$known_services" || misused "$(basename "$file") has no service $service"
done

began=$SECONDS
if [ -n "$build" ]; then
  build_images ${options[@]+"${options[@]}"} || fail "$FAILED" "the build failed; nothing was replaced"
  say "Built in $((SECONDS - began)) s: $(tr '\n' ' ' <<<"$built_images")"
fi

replaced=0
for service in ${chosen:-$all_services}; do
  before=$(container "$service")
  if [ -z "$before" ]; then
    [ -z "$chosen" ] || fail "$MISSING" "$service has no container, so none was replaced: bring it up first"
    say "$service: has no container, left out (bring it up first)"
    continue
  fi
  if [ -z "$restart" ] && is_current "$service" "$before"; then
    say "$service: runs what was built already, unchanged"
    continue
  fi
  [ -z "$(variable "$before" TIGERBEETLE_REPLICA_ID)" ] || others_are_there "$service"
  stopped=$SECONDS
  [ -z "$(variable "$before" NODE_ID)" ] || ! is_running "$before" || drain "$before"
  force=()
  [ -z "$restart" ] || force=(--force-recreate)
  COMPOSE_PROFILES='*' compose up -d --no-deps --no-build ${force[@]+"${force[@]}"} "$service" >/dev/null 2>&1 || {
    explain "$service"
    fail "$FAILED" "$service could not be replaced; those after it still run the old image"
  }
  wait_healthy "$seconds" "$service" ||
    fail "$FAILED" "$service is not healthy with the new image; those after it still run the old one"
  [ "$(container "$service")" != "$before" ] || fail "$FAILED" "$service was not replaced"
  wait_caught_up "$seconds" "$service" ||
    fail "$FAILED" "$service is behind: to replace the next replica now could stop the ledger. Look at its log, then go on with the others"
  say "$service: replaced, healthy after $((SECONDS - stopped)) s"
  replaced=$((replaced + 1))
done
say "$replaced containers replaced in $((SECONDS - began)) s."
