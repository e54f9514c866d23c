#!/usr/bin/env bash
# A backup of the TigerBeetle data files of a compose file, while the connectors go on.
#
#   scripts/backup-tigerbeetle.sh [-f FILE] [-d FOLDER] [-k COUNT] [--then COMMAND]
#   scripts/backup-tigerbeetle.sh --list | --verify NAME [-f FILE] [-d FOLDER]
#
#   -f, --file FILE      compose file (default: docker-compose-5-peer-multihop.yml)
#   -d, --dir FOLDER     where the backups are (default: backups/<project of the compose file>)
#   -k, --keep COUNT     how many to keep; older ones are removed once the new one is verified (default: 7)
#   --then COMMAND       run by bash with the folder of the new backup as $1, when that is verified: to encrypt
#                        it and copy it off the machine (default: BACKUP_THEN of the environment)
#   --list               what there is
#   --verify NAME        checks a backup again; `latest` is the newest one
#
# Consistent: TigerBeetle has no copy of its own that could be taken while it writes, so all its
# replicas are stopped for the moment that copying takes (about 4 s a GB), and started again at
# once, also when something goes wrong. The connectors keep what they book meanwhile, as
# ACCOUNTING_OUTAGE_POLICY says. Verified: TigerBeetle checks every checksum in the copy, and the
# compressed file is unpacked again to check that of what was compressed. A copy that fails is not kept.
#
# Exit codes: 0 done, 1 it did not work (or COMMAND did not: the backup is there then), 2 wrong usage, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

folder='' keep=7 verb=make name='' afterwards=${BACKUP_THEN:-}
while [ $# -gt 0 ]; do
  case $1 in
    -f | --file) value_of "$1" "${2:-}" && file=$value && shift ;;
    -d | --dir) value_of "$1" "${2:-}" && folder=$value && shift ;;
    -k | --keep) number_of "$1" "${2:-}" && keep=$value && shift ;;
    --then) value_of "$1" "${2:-}" && afterwards=$value && shift ;;
    --list) verb=list ;;
    --verify) value_of "$1" "${2:-}" && verb=verify name=$value && shift ;;
    -h | --help) usage "$1" ;;
    *) misused "unknown argument $1" ;;
  esac
  shift
done

need_stack
folder=${folder:-backups/$project}
if [ "$verb" = list ]; then
  printf '%-18s %-9s %-20s %-9s %s\n' NAME RELEASE CLUSTER REPLICAS SIZE
  for name in $(backups "$folder"); do
    one=$folder/$name
    printf '%-18s %-9s %-20s %-9s %s\n' "$name" "$(manifest "$one" release)" "$(manifest "$one" cluster)" \
      "$(manifest "$one" count)" "$(du -sh "$one" | cut -f 1)"
  done
  exit
fi

servers=$(replicas)
[ -n "$servers" ] || fail "$MISSING" "no TigerBeetle of $(basename "$file") has a container in project $project"

if [ "$verb" = verify ]; then
  [ "$name" != latest ] || name=$(backups "$folder" | tail -n 1)
  [ -e "$folder/${name:-none}/MANIFEST" ] || fail "$MISSING" "there is no backup ${name:-yet} in $folder"
  folder=$(cd "$folder" && pwd)
  verify_backup "$folder/$name" "$(need_container "${servers%%$'\n'*}")" || fail "$FAILED" "$name cannot be restored"
  say "$name: verified"
  exit
fi

umask 077
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
name=$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$folder/$name" ] || fail "$FAILED" "$folder/$name is there already; try again in a second"
work=$folder/.making-$name
mkdir "$work"

stopped=()
start_again() {
  local id
  for id in ${stopped[@]+"${stopped[@]}"}; do
    docker start "$id" >/dev/null || say "TigerBeetle did not start again: docker start $id"
  done
  stopped=()
}
# shellcheck disable=SC2317 # called by the trap
clean_up() {
  start_again
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Room for the copy and its compressed form; better known before anything is stopped.
data_file() { # data_file ID: its name and octets
  # shellcheck disable=SC2016 # expanded in the container
  in_tigerbeetle "$1" --volumes-from "$1:ro" -- 'cd "${TIGERBEETLE_DATA_DIR:-/data}"
    set -- *.tigerbeetle
    [ $# = 1 ] && [ -f "$1" ] || { echo "no data file, or more than one: $*" >&2; exit 1; }
    echo "$1 $(stat -c %s "$1")"' ||
    fail "$FAILED" "cannot find the data file of $(docker inspect -f '{{.Name}}' "$1")"
}
wanted=0 files=()
for service in $servers; do
  id=$(need_container "$service")
  found=$(data_file "$id")
  files+=("$service $id $found")
  wanted=$((wanted + ${found##* } / 1024))
done
room=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
[ "$room" -gt $((wanted * 2)) ] ||
  fail "$FAILED" "$folder has $((room / 1024)) MiB of room, $((wanted * 2 / 1024)) MiB are needed while a backup is made"
count=$(variable "$id" TIGERBEETLE_REPLICA_COUNT)
[ "${count:-1}" -eq ${#files[@]} ] ||
  say "Only ${#files[@]} of ${count} replicas are here: back up the others on their hosts, all of them stopped at the same time."

began=$(date +%s)
for one in "${files[@]}"; do
  read -r service id data octets <<<"$one"
  if is_running "$id"; then
    docker stop -t 20 "$id" >/dev/null || fail "$FAILED" "cannot stop $service"
    stopped+=("$id")
  fi
done
for one in "${files[@]}"; do
  read -r service id data octets <<<"$one"
  # shellcheck disable=SC2016 # expanded in the container
  in_tigerbeetle "$id" --volumes-from "$id:ro" -v "$work:/backup" -- \
    'cp "${TIGERBEETLE_DATA_DIR:-/data}/$1" /backup' "$data" ||
    fail "$FAILED" "cannot copy the data file of $service"
done
start_again
gap=$(($(date +%s) - began))
# shellcheck disable=SC2086 # names of services have no spaces
wait_healthy "$START_SECONDS" $servers || fail "$FAILED" "TigerBeetle is not healthy again; nothing was changed in its volume"
say "Copied; TigerBeetle was away for about $gap s. Verifying ..."

{
  printf 'made %s\n' "$name"
  printf 'project %s\n' "$project"
  printf 'release %s\n' "$(docker exec "$id" /tigerbeetle version | awk '{ sub(/\+.*/, "", $3); print $3 }')"
  printf 'cluster %s\n' "$(variable "$id" TIGERBEETLE_CLUSTER_ID)"
  printf 'count %s\n' "${count:-1}"
} >"$work/MANIFEST.partial"
for one in "${files[@]}"; do
  read -r service id data octets <<<"$one"
  # shellcheck disable=SC2016 # expanded in the container
  sum=$(in_tigerbeetle "$id" -v "$work:/backup" -- "$INSPECT"'
    cd /backup
    [ "$(stat -c %s "$1")" = "$2" ] || { echo "$1: the copy is not as long as the file" >&2; exit 1; }
    gzip -1 -c "$1" >"$1.gz" &
    inspect "$1"
    wait $!
    gzip -t "$1.gz"
    rm "$1"
    chown "$3" "$1.gz"
    chmod 600 "$1.gz"
    sync
    sha256sum "$1.gz" | cut -d " " -f 1' "$data" "$octets" "$(id -u):$(id -g)") || fail "$FAILED" "the copy of $service did not verify and was removed"
  printf 'replica %s %s %s %s %s\n' "$(variable "$id" TIGERBEETLE_REPLICA_ID)" "$service" "$data" "$octets" "$sum" >>"$work/MANIFEST.partial"
done
mv "$work/MANIFEST.partial" "$work/MANIFEST"
mv "$work" "$folder/$name"

backups "$folder" | awk -v keep="$keep" '{ names[NR] = $0 } END { for (i = 1; i <= NR - keep; i++) print names[i] }' |
  while read -r old; do
    rm -rf "${folder:?}/$old"
    say "Removed $old (keeping $keep)."
  done
say "Verified: $folder/$name ($(du -sh "$folder/$name" | cut -f 1), $(($(date +%s) - began)) s)"
if [ -n "$afterwards" ]; then
  # Its output is not that of this script, which is the folder alone.
  bash -euo pipefail -c "$afterwards" backup "$folder/$name" >&2 ||
    fail "$FAILED" "$folder/$name is made and verified, but what was to be done with it then failed with exit code $?"
  say "Done with it: $afterwards"
fi
printf '%s\n' "$folder/$name"
