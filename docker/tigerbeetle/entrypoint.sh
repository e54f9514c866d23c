#!/bin/sh
# Formats the data file of a replica on first start, then runs the replica.
#
#   start        (default) format if there is no data file, then run
#   format       format only; does nothing when the data file is there
#   recover      for a replica of a running cluster that lost its data file: takes a new one whose
#                contents come from the others. Never format in that case: the replica would have
#                forgotten what it promised the others. `scripts/compose-tb.sh recover` does it all.
#   set-aside    renames a data file that is damaged to <file>.set-aside, so that `recover` can make a
#                new one; an older one of that name goes. Nothing to do where there is none.
#   healthcheck  exit 0 when the port takes connections; in a container of another command always. A
#                server that is starting is waited for, so that it is healthy when it listens and not at
#                the next check: TIGERBEETLE_HEALTHCHECK_WAIT seconds (default 4)
#
# Environment:
#   TIGERBEETLE_CLUSTER_ID     decimal, up to 128 bits; 0 is for tests. Cannot change later.
#   TIGERBEETLE_REPLICA_ID     0 to TIGERBEETLE_REPLICA_COUNT - 1
#   TIGERBEETLE_REPLICA_COUNT  1, 2, 3, 5 or 6
#   TIGERBEETLE_ADDRESSES      IP:port of all replicas, in order of their ids; one replica needs none
#   TIGERBEETLE_PORT           where one replica alone listens (default 3000)
#   TIGERBEETLE_DATA_DIR       folder of the data file: /data (default), the volume, or one in it
#   TIGERBEETLE_MARKER_DIR     folder in which a replica of a cluster notes that it has had a data file
#                              (default /formatted); on another volume than the data file
#   TIGERBEETLE_CACHE_GRID     such as 256MiB, 512MiB (default 256MiB); the largest part of its memory
#   TIGERBEETLE_DEVELOPMENT    true: less memory, small requests, 8 client connections; not for money
#   TIGERBEETLE_AUTO_FORMAT    false: `start` without a data file is always an error. true (default):
#                              it is formatted, unless the replica has had one (see MARKER_DIR).
#   TIGERBEETLE_PRODUCTION     true: cluster id 0 and TIGERBEETLE_DEVELOPMENT=true are refused
#
# Exit codes: 1 it did not work, 2 wrong configuration, 3 the data file is another replica's or cluster's.
set -eu

cluster=${TIGERBEETLE_CLUSTER_ID:-0}
replica=${TIGERBEETLE_REPLICA_ID:-0}
count=${TIGERBEETLE_REPLICA_COUNT:-1}
port=${TIGERBEETLE_PORT:-3000}
folder=${TIGERBEETLE_DATA_DIR:-/data}
cache_grid=${TIGERBEETLE_CACHE_GRID:-256MiB}
program=${TIGERBEETLE_PROGRAM:-/tigerbeetle}
file=$folder/${cluster}_${replica}.tigerbeetle
temporary=$folder/.formatting.$$
marker=${TIGERBEETLE_MARKER_DIR:-/formatted}/${cluster}_${replica}

say() { echo "tigerbeetle-entrypoint: $*" >&2; }

die() {
  code=$1
  shift
  say "$@"
  exit "$code"
}

is_number() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
}

check_settings() {
  is_number "$cluster" || die 2 "TIGERBEETLE_CLUSTER_ID=$cluster is not a decimal number"
  is_number "$replica" || die 2 "TIGERBEETLE_REPLICA_ID=$replica is not a number"
  case $count in 1 | 2 | 3 | 5 | 6) ;; *) die 2 "TIGERBEETLE_REPLICA_COUNT=$count must be 1, 2, 3, 5 or 6" ;; esac
  [ "$replica" -lt "$count" ] ||
    die 2 "TIGERBEETLE_REPLICA_ID=$replica must be below TIGERBEETLE_REPLICA_COUNT=$count"
  is_number "$port" || die 2 "TIGERBEETLE_PORT=$port is not a port"
  # 007 and 7 are one cluster, but would be two file names.
  [ "$cluster" = 0 ] || [ "${cluster#0}" = "$cluster" ] || die 2 "TIGERBEETLE_CLUSTER_ID=$cluster must not begin with 0"
  case ${TIGERBEETLE_DEVELOPMENT:-false} in
    true) development=--development ;;
    false) development= ;;
    *) die 2 "TIGERBEETLE_DEVELOPMENT=$TIGERBEETLE_DEVELOPMENT must be true or false" ;;
  esac
  case ${TIGERBEETLE_AUTO_FORMAT:-true} in
    true | false) ;;
    *) die 2 "TIGERBEETLE_AUTO_FORMAT=$TIGERBEETLE_AUTO_FORMAT must be true or false" ;;
  esac
  if [ "${TIGERBEETLE_PRODUCTION:-false}" = true ]; then
    [ "$cluster" != 0 ] ||
      die 2 "TIGERBEETLE_CLUSTER_ID=0 is the value of the example, and for tests: set a number of your own in .env, for ever (scripts/compose-tb.sh init makes one)"
    [ -z "$development" ] || die 2 "TIGERBEETLE_DEVELOPMENT=true is for tests: remove it from .env"
  fi
  case $folder in /data/*) mkdir -p "$folder" 2>/dev/null || true ;; esac
  if ! [ -d "$folder" ] || ! [ -w "$folder" ]; then
    die 2 "TIGERBEETLE_DATA_DIR=$folder is not a folder that uid $(id -u) can write: use a named volume, or chown the folder to $(id -u)"
  fi
  addresses=${TIGERBEETLE_ADDRESSES:-}
  if [ -z "$addresses" ]; then
    [ "$count" = 1 ] || die 2 "TIGERBEETLE_ADDRESSES must name all $count replicas: IP:port,IP:port,..."
    addresses=0.0.0.0:$port
  fi
  check_addresses
}

# Sets `listen`, the addresses with our own replaced by "all of this machine": then the health check
# and port forwarding reach it too.
check_addresses() {
  listen=''
  number=0
  rest=$addresses,
  while [ -n "$rest" ]; do
    one=${rest%%,*}
    rest=${rest#*,}
    case $one in
      *[!0-9.:]* | '' | *:*:* | :* | *:)
        die 2 "TIGERBEETLE_ADDRESSES: '$one' is not IPv4:port; names are not possible, give each replica a fixed ipv4_address" ;;
      *:*) ;;
      *) die 2 "TIGERBEETLE_ADDRESSES: '$one' has no port" ;;
    esac
    [ "$number" != "$replica" ] || one=0.0.0.0:${one#*:}
    listen=$listen${listen:+,}$one
    number=$((number + 1))
  done
  [ "$number" = "$count" ] ||
    die 2 "TIGERBEETLE_ADDRESSES names $number replicas, TIGERBEETLE_REPLICA_COUNT says $count"
}

# run WHAT ARGUMENT...: the program's output is kept, and explained when it fails.
run() {
  what=$1
  shift
  if output=$("$program" "$@" 2>&1); then
    return 0
  fi
  case $output in
    *PermissionDenied* | *"io_uring"*)
      die 1 "io_uring is denied here, and TigerBeetle cannot do without: run the container with security_opt: [seccomp=docker/tigerbeetle/seccomp.json] (Docker 25 and later deny io_uring), or set the sysctl kernel.io_uring_disabled=0" ;;
    *NoSpaceLeft*) die 1 "cannot $what: no space left in $folder" ;;
  esac
  say "cannot $what:"
  printf '%s\n' "$output" | tail -n 5 >&2
  return 1
}

# Another data file in the folder, by its name or by what is in it, is never touched.
check_data_file() {
  for other in "$folder"/*.tigerbeetle; do
    [ "$other" = "$file" ] || [ ! -e "$other" ] ||
      die 3 "$other is there, but this is cluster $cluster, replica $replica: another data file is never taken over. Set TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICA_ID to what it was formatted with, or use another volume"
  done
  [ -e "$file" ] || return 0
  run "read $file" inspect superblock "$file" || die 1 "$file is damaged: restore it from a backup, or, in a cluster, scripts/compose-tb.sh recover tigerbeetle-$replica"
  found=$(printf '%s\n' "$output" | sed -n 's/.* vsr_state\.checkpoint\.header=.*[ {]\.cluster=\([0-9]*\),.*/\1/p' | head -n 1)
  [ "${found:-$cluster}" = "$cluster" ] ||
    die 3 "$file belongs to cluster $found, not to TIGERBEETLE_CLUSTER_ID=$cluster: use the volume of this cluster, or set the id to $found"
  found=$(printf '%s\n' "$output" | sed -n 's/.* vsr_state\.replica_count=\([0-9]*\)$/\1/p' | head -n 1)
  [ "${found:-$count}" = "$count" ] ||
    die 3 "$file was formatted for $found replicas, TIGERBEETLE_REPLICA_COUNT says $count: it cannot change"
  own=$(printf '%s\n' "$output" | sed -n 's/.* vsr_state\.replica_id=\(0x[0-9a-f]*\)$/\1/p' | head -n 1)
  found=$(printf '%s\n' "$output" | sed -n "s/.* vsr_state\\.members\\[\\([0-9]*\\)\\]=$own\$/\\1/p" | head -n 1)
  [ "${found:-$replica}" = "$replica" ] ||
    die 3 "$file belongs to replica $found, not to TIGERBEETLE_REPLICA_ID=$replica: each replica needs its own volume"
}

# A file that is half written must never be found under the real name: it would stop the server.
make_data_file() {
  rm -f "$folder"/.formatting.*
  # shellcheck disable=SC2064 # the name of now
  trap "rm -f '$temporary'" EXIT
  # shellcheck disable=SC2086 # empty or one option
  run "$1 $file" "$@" --cluster="$cluster" --replica="$replica" --replica-count="$count" $development "$temporary" ||
    exit 1
  mv "$temporary" "$file"
  trap - EXIT
  note_data_file
}

# The marker outlives the data file: it is on another volume, and goes only with all of them. One
# replica alone needs none, since nobody has promises of it.
note_data_file() {
  [ "$count" != 1 ] && [ -d "${marker%/*}" ] && [ ! -e "$marker" ] || return 0
  : >"$marker" 2>/dev/null || say "cannot write $marker: a loss of $file will not be noticed"
}

case ${1:-start} in
  start)
    check_settings
    check_data_file
    if [ ! -e "$file" ]; then
      [ ! -e "$marker" ] || [ "$count" = 1 ] ||
        die 3 "$file is lost: replica $replica of cluster $cluster has had one, and a new one would not know what it promised the others. Get it from them: scripts/compose-tb.sh recover tigerbeetle-$replica"
      [ "${TIGERBEETLE_AUTO_FORMAT:-true}" = true ] ||
        die 1 "there is no $file, and TIGERBEETLE_AUTO_FORMAT=false: for a new cluster run scripts/compose-tb.sh format, for a replica that lost its file scripts/compose-tb.sh recover"
      make_data_file format
      say "formatted $file for cluster $cluster, replica $replica of $count"
    fi
    note_data_file
    # shellcheck disable=SC2086 # empty or one option
    exec "$program" start --addresses="$listen" --cache-grid="$cache_grid" $development "$file"
    ;;
  format)
    check_settings
    check_data_file
    if [ -e "$file" ]; then
      note_data_file
      say "$file is there already: nothing to do"
    elif [ -e "$marker" ] && [ "$count" != 1 ]; then
      die 3 "$file is lost: replica $replica of cluster $cluster has had one. Recover it (scripts/compose-tb.sh recover), or remove all volumes of the cluster"
    else
      make_data_file format
      say "formatted $file for cluster $cluster, replica $replica of $count"
    fi
    ;;
  recover)
    check_settings
    check_data_file
    [ "$count" != 1 ] || die 2 "a single replica has nobody to recover from: restore a backup"
    [ ! -e "$file" ] || die 2 "$file is there: a replica is recovered only when its data file is lost; if it is damaged, run 'set-aside' first"
    make_data_file recover --addresses="$addresses"
    say "recovered $file from the other replicas; start the replica now"
    ;;
  set-aside)
    [ "$count" != 1 ] || die 2 "a single replica has nobody to recover from: restore a backup"
    if [ -e "$file" ]; then
      mv -f "$file" "$file.set-aside"
      say "renamed $file to ${file##*/}.set-aside"
    else
      say "there is no $file: nothing to do"
    fi
    ;;
  healthcheck)
    # Containers that format or recover have no port, and are not ill.
    if [ -r /proc/1/cmdline ]; then
      case "$(tr '\0' ' ' </proc/1/cmdline)" in
        *"/entrypoint.sh start"* | "") ;;
        *"/entrypoint.sh "*) exit 0 ;;
      esac
    fi
    own=${TIGERBEETLE_ADDRESSES:-}
    while [ -n "$own" ] && [ "$replica" -gt 0 ]; do
      own=${own#*,}
      replica=$((replica - 1))
    done
    own=${own%%,*}
    [ -z "$own" ] || port=${own#*:}
    left=${TIGERBEETLE_HEALTHCHECK_WAIT:-4}
    is_number "$left" || die 2 "TIGERBEETLE_HEALTHCHECK_WAIT=$left is not a number of seconds"
    # Five looks a second; who has no port here refuses at once.
    left=$((left * 5))
    while ! nc -w 1 127.0.0.1 "$port" </dev/null >/dev/null 2>&1; do
      [ "$left" -gt 0 ] || die 1 "port $port takes no connections"
      left=$((left - 1))
      sleep 0.2
    done
    ;;
  -h | --help) sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0" ;;
  *) exec "$program" "$@" ;;
esac
