#!/usr/bin/env bash
# Writes what only the host knows as metrics, for the textfile collector of node-exporter: whether each
# container is healthy, how old the newest backup is, how full the disk of the engine is. Run it every minute, from
# cron or a timer of systemd; docker/monitoring/alerts-host.yml has the alert rules.
#
#   scripts/docker-metrics.sh [-f FILE] [-d FOLDER] [-o FILE]
#
#   -f, --file FILE     compose file (default: docker/docker-compose.production.yml)
#   -d, --dir FOLDER    where the backups are (default: backups/<project of the compose file>)
#   -o, --output FILE   where to write; - is the terminal (default: metrics/connector.prom beside the compose file)
#
# Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

file=docker/docker-compose.production.yml folder='' output=''
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -d | --dir) value_of "$1" "${2:-}" && folder=$value && shift ;;
    -o | --output)
      if [ "${2:-}" = - ]; then output=-; else value_of "$1" "${2:-}" && output=$value; fi
      shift
      ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done
need_stack
folder=${folder:-backups/$project}
output=${output:-$(dirname "$file")/metrics/connector.prom}

# gauge NAME HELP
gauge() { printf '# HELP %s %s\n# TYPE %s gauge\n' "$1" "$2" "$1"; }

# seconds_of NAME: of a backup, 20260131T120000Z, as seconds since 1970. (What `date` takes differs.)
seconds_of() {
  awk -v name="$1" 'BEGIN {
    y = substr(name, 1, 4) + 0; m = substr(name, 5, 2) + 0; d = substr(name, 7, 2) + 0
    a = int((14 - m) / 12); y = y + 4800 - a; m = m + 12 * a - 3
    days = d + int((153 * m + 2) / 5) + 365 * y + int(y / 4) - int(y / 100) + int(y / 400) - 32045 - 2440588
    printf "%d\n", days * 86400 + substr(name, 10, 2) * 3600 + substr(name, 12, 2) * 60 + substr(name, 14, 2)
  }'
}

metrics() {
  local service id now names newest room
  gauge ilp_container_healthy "1: the container of a service is healthy, or runs where it has no health check."
  for service in $all_services; do
    id=$(container "$service")
    now=$([ -n "$id" ] && state "$id" || echo missing)
    case $now in
      healthy | running) now=1 ;;
      *) now=0 ;;
    esac
    printf 'ilp_container_healthy{project="%s",service="%s"} %s\n' "$project" "$service" "$now"
  done
  names=$(backups "$folder")
  gauge ilp_backups "How many backups there are."
  printf 'ilp_backups{project="%s"} %s\n' "$project" "$(grep -c . <<<"$names" || true)"
  newest=$(tail -n 1 <<<"$names")
  if [ -n "$newest" ]; then
    gauge ilp_backup_seconds "When the newest backup was made, in seconds since 1970."
    printf 'ilp_backup_seconds{project="%s"} %s\n' "$project" "$(seconds_of "$newest")"
    gauge ilp_backup_bytes "Octets of the newest backup."
    printf 'ilp_backup_bytes{project="%s"} %s\n' "$project" "$(($(du -sk "$folder/$newest" | cut -f 1) * 1024))"
  fi
  # Of an engine on another machine the disk cannot be seen.
  if room=$(df -Pk "$(docker info --format '{{.DockerRootDir}}')" 2>/dev/null | awk 'NR == 2 { printf "%.0f %.0f", $2 * 1024, $4 * 1024 }') && [ -n "$room" ]; then
    gauge ilp_engine_disk_bytes "Octets of the disk on which the engine keeps volumes."
    printf 'ilp_engine_disk_bytes %s\n' "${room% *}"
    gauge ilp_engine_disk_free_bytes "Octets of it that are free."
    printf 'ilp_engine_disk_free_bytes %s\n' "${room#* }"
  fi
  gauge ilp_host_metrics_seconds "When this was written, in seconds since 1970."
  printf 'ilp_host_metrics_seconds %s\n' "$(date +%s)"
}

if [ "$output" = - ]; then
  metrics
  exit
fi
umask 022
mkdir -p "$(dirname "$output")" || fail "$FAILED" "cannot make $(dirname "$output")"
# A reader never sees half of it; names that end otherwise are not read.
if ! { metrics >"$output.new" && mv -f "$output.new" "$output"; }; then fail "$FAILED" "cannot write $output"; fi
