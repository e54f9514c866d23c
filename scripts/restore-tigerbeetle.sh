#!/usr/bin/env bash
# Puts the TigerBeetle data files of a backup in the place of the present ones.
#
#   scripts/restore-tigerbeetle.sh [NAME] [-f FILE] [-d FOLDER] [--yes]
#
#   NAME               of the backup, see backup-tigerbeetle.sh --list (default: latest)
#   -f, --file FILE    compose file (default: docker-compose-5-peer-multihop.yml)
#   -d, --dir FOLDER   where the backups are (default: backups/<project of the compose file>)
#   -y, --yes          do not ask
#
# The backup is verified before anything is stopped. Then the connectors stop, TigerBeetle stops,
# the files are exchanged, and all start again: first TigerBeetle, then the connectors, which read
# their balances from it, and an audit. When TigerBeetle does not start with the restored files, the
# former ones are put back. Works also when volumes and containers are gone, as long as .env is there.
#
# What was booked after the backup is not in it. A cluster is restored as a whole: one replica that
# lost its file gets it from the others instead (docs/deployment.md).
#
# Exit codes: 0 done and the audit holds, 1 it did not work, 2 wrong usage, 3 something is missing,
# 4 not confirmed.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

# shellcheck disable=SC2034 # read by confirm
folder='' name=latest assume_yes=''
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -d | --dir) value_of "$1" "${2:-}" && folder=$value && shift ;;
    -y | --yes) assume_yes=yes ;;
    -h | --help) usage "$1" ;;
    -*) misused "unknown option $1" ;;
    *) name=$1 ;;
  esac
  shift
done

need_stack
folder=${folder:-backups/$project}
[ -d "$folder" ] || fail "$MISSING" "there are no backups in $folder"
folder=$(cd "$folder" && pwd)
[ "$name" != latest ] || name=$(backups "$folder" | tail -n 1)
[ -n "$name" ] || fail "$MISSING" "there is no backup in $folder yet"
backup=$folder/$name
[ -e "$backup/MANIFEST" ] || fail "$MISSING" "there is no backup $name in $folder; see backup-tigerbeetle.sh --list"

# Containers and volumes that are gone are made, not started.
saved=$(manifest "$backup" replica)
services=$(awk '{ print $2 }' <<<"$saved")
for service in $services; do
  grep -qx -- "$service" <<<"$all_services" || fail "$MISSING" "$(basename "$file") has no service $service, which $name is of"
  if [ -z "$(container "$service")" ]; then
    say "Making the containers and volumes that are missing ..."
    compose up --no-start >&2 || fail "$FAILED" "compose cannot make the containers"
  fi
done
servers=$(replicas)
[ "$(sort <<<"$services")" = "$(sort <<<"$servers")" ] ||
  fail "$FAILED" "$name is of $(tr '\n' ' ' <<<"$services")but $(basename "$file") runs $(tr '\n' ' ' <<<"$servers"): a cluster is restored as a whole"
for service in $servers; do
  id=$(need_container "$service")
  cluster=$(variable "$id" TIGERBEETLE_CLUSTER_ID)
  [ "$cluster" = "$(manifest "$backup" cluster)" ] ||
    fail "$FAILED" "$name is of cluster $(manifest "$backup" cluster), but $service is configured for $cluster: set TIGERBEETLE_CLUSTER_ID in $(env_file), run 'up' again, then this"
done

confirm "The books of project $project will be as they were at $(manifest "$backup" made); what was booked since is lost."
say "Verifying $name ..."
verify_backup "$backup" "$id" || fail "$FAILED" "$name cannot be restored; choose an earlier one. Nothing was changed"

nodes=$(connectors)
say "Stopping the connectors and TigerBeetle ..."
for service in $nodes $servers; do
  docker stop -t 30 "$(container "$service")" >/dev/null || fail "$FAILED" "cannot stop $service; nothing was changed"
done

put_back() {
  local service id
  for service in $servers; do
    id=$(container "$service")
    docker stop -t 20 "$id" >/dev/null 2>&1 || true
    # shellcheck disable=SC2016 # expanded in the container
    in_tigerbeetle "$id" --volumes-from "$id" -- 'cd "${TIGERBEETLE_DATA_DIR:-/data}"
      rm -f .restoring
      for one in *.tigerbeetle.replaced; do
        [ ! -e "$one" ] || mv "$one" "${one%.replaced}"
      done'
  done
}
# shellcheck disable=SC2317 # called by the trap
undo() {
  say "Putting the former files back ..."
  put_back
  # shellcheck disable=SC2086 # names of services have no spaces
  compose up -d $all_services >/dev/null 2>&1 || say "Not everything started again; see docker-network-status.sh"
}
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

while read -r _ service data octets _; do
  id=$(container "$service")
  # The volume's owner is the user that the server runs as.
  # shellcheck disable=SC2016 # expanded in the container
  in_tigerbeetle "$id" --volumes-from "$id" -v "$backup:/backup:ro" -- '
    cd "${TIGERBEETLE_DATA_DIR:-/data}"
    rm -f ./*.replaced .restoring
    gunzip -c "/backup/$1.gz" >.restoring && [ "$(stat -c %s .restoring)" = "$2" ] ||
      { echo "$1.gz cannot be unpacked; is the disk of the engine full?" >&2; exit 1; }
    chown "$(stat -c %u:%g .)" .restoring
    chmod 600 .restoring
    for one in *.tigerbeetle; do
      [ ! -e "$one" ] || mv "$one" "$one.replaced"
    done
    mv .restoring "$1"
    sync' "$data" "$octets" </dev/null || fail "$FAILED" "cannot write the data file of $service"
done <<<"$saved"

say "Starting TigerBeetle ..."
for service in $servers; do docker start "$(container "$service")" >/dev/null; done
# shellcheck disable=SC2086 # names of services have no spaces
wait_healthy "$START_SECONDS" $servers || fail "$FAILED" "TigerBeetle does not run with the restored files"
trap - EXIT INT TERM
for service in $servers; do
  id=$(container "$service")
  # shellcheck disable=SC2016 # expanded in the container
  in_tigerbeetle "$id" --volumes-from "$id" -- 'rm -f "${TIGERBEETLE_DATA_DIR:-/data}"/*.replaced'
done

if [ -n "$nodes" ]; then
  say "Starting the connectors ..."
  start_all "$START_SECONDS" || fail "$FAILED" "the files are restored, but not everything is healthy"
  first=$(container "${nodes%%$'\n'*}")
  ids=$(for service in $nodes; do variable "$(container "$service")" NODE_ID; done | tr '\n' ',' | sed 's/,$//')
  verdict=$(docker exec "$first" python -m connector audit --nodes "$ids" 2>&1) || {
    grep -v '^ok' <<<"$verdict" >&2 || true
    fail "$FAILED" "the files are restored, but the audit does not hold"
  }
  say "audit: ok"
fi
say "Restored $name."
