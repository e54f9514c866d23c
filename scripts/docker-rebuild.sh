#!/usr/bin/env bash
# Builds the images anew and replaces the containers that run an old one, one after the other, each
# healthy before the next: the rest of the network goes on meanwhile. Volumes stay, and so do books.
#
#   scripts/docker-rebuild.sh [-f FILE] [--no-cache] [-t SECONDS] [SERVICE...]
#
#   -f, --file FILE        compose file (default: docker-compose-5-peer-multihop.yml)
#   --no-cache             build from nothing
#   -t, --timeout SECONDS  how long a container may take to be healthy (default: 60)
#   SERVICE                which to replace (default: all; one whose image did not change stays)
#
# Exit codes: 0 done, 1 a build failed or a container is not healthy, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

seconds=60 chosen='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -t | --timeout) number_of "$1" "${2:-}" && seconds=$value && shift ;;
    --no-cache) options+=("$1") ;;
    -h | --help) usage "$1" ;;
    -*) misused "unknown option $1" ;;
    *) chosen="$chosen $1" ;;
  esac
  shift
done

need_stack
for service in $chosen; do
  grep -qx -- "$service" <<<"$all_services" || misused "$(basename "$file") has no service $service"
done

began=$SECONDS
compose build ${options[@]+"${options[@]}"} >&2 || fail "$FAILED" "the build failed; nothing was replaced"
say "Built in $((SECONDS - began)) s."

replaced=0
for service in ${chosen:-$all_services}; do
  before=$(container "$service")
  if [ -z "$before" ]; then
    say "$service: has no container, left out (bring it up first)"
    continue
  fi
  compose up -d --no-deps --no-build "$service" >/dev/null 2>&1 || {
    explain "$service"
    fail "$FAILED" "$service could not be replaced; those after it still run the old image"
  }
  wait_healthy "$seconds" "$service" ||
    fail "$FAILED" "$service is not healthy with the new image; those after it still run the old one"
  if [ "$(container "$service")" = "$before" ]; then
    say "$service: unchanged"
  else
    say "$service: replaced, healthy"
    replaced=$((replaced + 1))
  fi
done
say "$replaced containers replaced in $((SECONDS - began)) s."
