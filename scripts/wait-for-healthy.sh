#!/usr/bin/env bash
# Waits until containers of a compose file are healthy; says which are not, and why.
#
#   scripts/wait-for-healthy.sh [-f FILE] [-t SECONDS] [SERVICE...]
#
#   -f, --file FILE        compose file (default: docker-compose-5-peer-multihop.yml)
#   -t, --timeout SECONDS  how long to wait (default: 60)
#   SERVICE                as in the compose file (default: all of them)
#
# Exit codes: 0 all healthy, 1 not in time or one has stopped, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

seconds=60 chosen=()
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -t | --timeout) number_of "$1" "${2:-}" && seconds=$value && shift ;;
    -h | --help) usage "$1" ;;
    -*) misused "unknown option $1" ;;
    *) chosen+=("$1") ;;
  esac
  shift
done

need_stack
if [ ${#chosen[@]} -eq 0 ]; then
  # shellcheck disable=SC2206 # names of services have no spaces
  chosen=($all_services)
fi
for service in "${chosen[@]}"; do
  grep -qx -- "$service" <<<"$all_services" || misused "$(basename "$file") has no service $service"
done

began=$SECONDS
wait_healthy "$seconds" "${chosen[@]}" || exit "$FAILED"
say "${#chosen[@]} healthy after $((SECONDS - began)) s: ${chosen[*]}"
