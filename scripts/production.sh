#!/usr/bin/env bash
# What docker/docker-compose.production.yml needs before it can be started, and new keys later.
#
#   scripts/production.sh VERB
#
#   init --node-id ID --address ADDRESS   docker/.env (0600) with a random cluster id, and docker/secrets with random
#                                         keys, each in a file; what is there already stays
#   peer ID                               a random secret for a peer, or that of the file named by FROM=; prints
#                                         the file, whose contents the peer needs too
#   rotate NAME                           a new admin-api-key, read-api-key or metrics-key, then replaces the
#                                         containers that read it, one after the other; a connector is
#                                         drained, so that peers with packet ids lose no packet
#
# docker/secrets is for its owner only (0700). Below it each container has a folder of its own, mounted as
# /run/secrets, whose files its user can read. FILE=<compose file> takes another file, SECRETS_DIR another folder.
#
# Exit codes: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing, 4 not confirmed.
set -euo pipefail
# shellcheck source=scripts/_docker.sh
. "$(dirname "${BASH_SOURCE[0]}")/_docker.sh"
usage "${1:-}"

file=${FILE:-docker/docker-compose.production.yml}
verb=${1:-}
[ $# -eq 0 ] || shift
readonly INSIDE=/run/secrets

# Where the secrets are: as compose makes it out, from the folder of its file.
secrets_folder() {
  local folder=${SECRETS_DIR:-}
  [ -n "$folder" ] || folder=$(env_value SECRETS_DIR)
  folder=${folder:-secrets}
  case $folder in
    /*) printf '%s\n' "$folder" ;;
    *) printf '%s/%s\n' "$(dirname "$file")" "${folder#./}" ;;
  esac
}

# write_secret CONTAINER NAME VALUE: never half of it, and readable inside for whoever runs there.
write_secret() {
  local folder=$secrets/$1
  [ -w "$secrets" ] || fail "$FAILED" "$secrets is not yours to write: an engine that found no such folder has made it; remove it, or use sudo"
  readable_folder "$folder"
  if ! { printf '%s\n' "$3" >"$folder/.new" && chmod 444 "$folder/.new" && mv -f "$folder/.new" "$folder/$2"; }; then
    fail "$FAILED" "cannot write $folder/$2"
  fi
}

readable_folder() {
  if ! { mkdir -p "$1" && chmod 755 "$1"; }; then fail "$FAILED" "cannot make $1"; fi
}

make_folder() {
  (umask 077 && mkdir -p "$secrets") || fail "$FAILED" "cannot make $secrets"
  chmod 700 "$secrets" || fail "$FAILED" "$secrets is not yours"
}

# name_in_env NAME=VALUE: unless it, or the same without _FILE, has a value there.
name_in_env() {
  local name=${1%%=*}
  [ -z "$(env_value "$name")$(env_value "${name%_FILE}")" ] || return 0
  add_to_env "$1"
  say "Added to $(env_file): ${1%%=*}"
}

# key CONTAINER NAME VARIABLE: made and named, unless it is there.
key() {
  if [ -n "$(env_value "$3")" ]; then
    say "$3 is in $(env_file) itself, and stays there."
    return
  fi
  [ -s "$secrets/$1/$2" ] || write_secret "$1" "$2" "$(random_hex)"
  name_in_env "$3_FILE=$INSIDE/$2"
}

init() {
  local id='' address='' folder
  while [ $# -gt 0 ]; do
    case $1 in
      --node-id) value_of "$1" "${2:-}" && id=$value && shift ;;
      --address) value_of "$1" "${2:-}" && address=$value && shift ;;
      *) misused "init: unknown argument $1" ;;
    esac
    shift
  done
  id=${id:-$(env_value NODE_ID)} address=${address:-$(env_value ILP_ADDRESS)}
  [ -n "$id" ] || misused "init: --node-id is needed, a name that never changes: account ids are made of it"
  [ -n "$address" ] || misused "init: --address is needed, the ILP address that your parent or the network gave you"
  if [ ! -e "$(env_file)" ]; then
    (umask 077 && printf '%s\n' "# Of $(basename "$file"), made by $(basename "$0"): keep it with the backups. .env.production.example explains all." >"$(env_file)")
  fi
  chmod 600 "$(env_file)"
  name_in_env "NODE_ID=$id"
  name_in_env "ILP_ADDRESS=$address"
  name_in_env "TIGERBEETLE_CLUSTER_ID=$(random_cluster_id)"
  make_folder
  for folder in connector prometheus alertmanager grafana; do
    readable_folder "$secrets/$folder"
  done
  key connector admin-api-key ADMIN_API_KEY
  key connector read-api-key READ_API_KEY
  key connector metrics-key METRICS_KEY
  [ ! -s "$secrets/connector/metrics-key" ] || write_secret prometheus metrics-key "$(cat "$secrets/connector/metrics-key")"
  [ -s "$secrets/grafana/password" ] || write_secret grafana password "$(random_hex)"
  (umask 022 && mkdir -p "$(dirname "$file")/metrics")
  say "Next: secrets and settings of peers ($0 peer ID), then"
  say "  FILE=$file scripts/compose-tb.sh init      the cluster: build, format, up"
  say "  docker compose -f $file up -d"
}

peer() {
  local id=${1:-} name variable text
  case $id in
    '' | -*) misused "peer: an id is needed" ;;
    *[!a-zA-Z0-9_-]*) misused "peer: an id has letters, digits, - and _, not '$id'" ;;
  esac
  [ $# -eq 1 ] || misused "peer: one id"
  name=peer-$id
  variable=BTP_PEER_$(printf %s "$id" | tr '[:lower:]-' '[:upper:]_')_SECRET
  [ -z "$(env_value "$variable")" ] || fail "$FAILED" "$variable is in $(env_file) itself; take it out there first"
  make_folder
  if [ -n "${FROM:-}" ]; then
    text=$(cat "$FROM") || fail "$MISSING" "cannot read $FROM"
    [ -n "$text" ] || fail "$FAILED" "$FROM is empty"
    write_secret connector "$name" "$text"
  elif [ ! -s "$secrets/connector/$name" ]; then
    write_secret connector "$name" "$(random_hex)"
  fi
  name_in_env "${variable}_FILE=$INSIDE/$name"
  printf '%s\n' "$secrets/connector/$name"
}

rotate() {
  local name=${1:-} service
  case $name in
    admin-api-key | read-api-key | metrics-key) ;;
    peer-* | '') misused "rotate: which one? admin-api-key, read-api-key or metrics-key. The secret of a peer changes while its link stays up: ilp-connector peers rotate-secret (docs/operating.md)" ;;
    *) misused "rotate: $name is none of admin-api-key, read-api-key and metrics-key" ;;
  esac
  [ $# -eq 1 ] || misused "rotate: one name"
  [ -s "$secrets/connector/$name" ] || fail "$MISSING" "there is no $secrets/connector/$name: init makes it"
  write_secret connector "$name" "$(random_hex)"
  [ "$name" != metrics-key ] || write_secret prometheus "$name" "$(cat "$secrets/connector/$name")"
  need_stack
  for service in $(connectors) $([ "$name" != metrics-key ] || echo prometheus); do
    [ -n "$(container "$service")" ] || continue
    scripts/docker-rebuild.sh -f "$file" --no-build --restart "$service" ||
      fail "$FAILED" "$service does not run with the new $name yet"
  done
  say "The new $name is in $secrets/connector/$name."
}

case $verb in
  init | peer | rotate) ;;
  '') misused "a verb is needed: init, peer or rotate" ;;
  *) misused "unknown verb $verb" ;;
esac
[ -r "$file" ] || fail "$MISSING" "there is no compose file $file"
file=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")
secrets=$(secrets_folder)
"$verb" "$@"
