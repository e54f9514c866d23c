#!/usr/bin/env bash
# Starts the containers of a compose file again that were killed. The engine's own restart policy
# brings back what crashed; but `docker kill` it takes for a stop, whatever the policy says.
#
#   scripts/docker-keep-running.sh [-f FILE | --all] [-i SECONDS] [--once]
#
#   -f, --file FILE        compose file (default: docker-compose-5-peer-multihop.yml)
#   --all                  those of every compose file with a connector or TigerBeetle of ours
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

interval=2 once='' all=''
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -i | --interval) number_of "$1" "${2:-}" && interval=$value && shift ;;
    --all) all=yes ;;
    --once) once=yes ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done

# projects: the names of those that are looked after. Containers take over the labels of their image.
projects() {
  local title
  if [ -z "$all" ]; then
    printf '%s\n' "$project"
    return
  fi
  for title in ilp-connector ilp-connector-tigerbeetle; do
    docker ps -a --filter "label=org.opencontainers.image.title=$title" \
      --format '{{.Label "com.docker.compose.project"}}' || return 1
  done | grep -v '^$' | sort -u
}

# start_killed: 1 when one did not start, or the engine does not answer.
start_killed() {
  local one found ids='' id name policy result=0
  for one in $(projects); do
    found=$(docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$one" \
      --filter label=com.docker.compose.oneoff=False --filter status=exited --filter exited=137) || return 1
    ids="$ids $found"
  done
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

if [ -z "$all" ]; then
  need_docker
else
  need_engine
fi
if [ -n "$once" ]; then
  start_killed || fail "$FAILED" "not everything that was killed runs again"
  exit
fi
# An engine that restarts is waited for.
while :; do
  start_killed || say "Trying again in $interval s."
  sleep "$interval"
done
