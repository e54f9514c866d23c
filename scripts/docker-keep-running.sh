#!/usr/bin/env bash
# Starts the containers of a compose file again that were killed. The engine's own restart policy
# brings back what crashed; but `docker kill` it takes for a stop, whatever the policy says.
#
#   scripts/docker-keep-running.sh [-f FILE] [-i SECONDS] [--once]
#
#   -f, --file FILE        compose file (default: docker-compose-5-peer-multihop.yml)
#   -i, --interval SECONDS how often to look (default: 2)
#   --once                 look once, for cron; else until it is ended, as a service of the host
#
# Killed is what ended with exit code 137. What `docker stop` and `compose stop` end has another one,
# unless its grace period ran out, and stays stopped; so does all with the restart policy `no`:
# `docker update --restart no CONTAINER` keeps even a killed one down.
#
# Exit codes: 0 done (with --once), 1 one did not start, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

interval=2 once=''
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -i | --interval) number_of "$1" "${2:-}" && interval=$value && shift ;;
    --once) once=yes ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done

# start_killed: 1 when one did not start, or the engine does not answer.
start_killed() {
  local ids id name policy result=0
  ids=$(docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" \
    --filter label=com.docker.compose.oneoff=False --filter status=exited --filter exited=137) || return 1
  for id in $ids; do
    # It may be removed by now.
    read -r name policy < <(docker inspect -f '{{.Name}} {{.HostConfig.RestartPolicy.Name}}' "$id" 2>/dev/null) || continue
    [ "$policy" != no ] || continue
    if docker start "$id" >/dev/null; then
      say "$(date -u +%Y-%m-%dT%H:%M:%SZ) ${name#/} was killed: started again"
    else
      result=1
    fi
  done
  return "$result"
}

need_docker
if [ -n "$once" ]; then
  start_killed || fail "$FAILED" "not everything that was killed runs again"
  exit
fi
# An engine that restarts is waited for.
while :; do
  start_killed || say "Trying again in $interval s."
  sleep "$interval"
done
