# shellcheck shell=bash
# For the scripts beside it that work with containers, to be sourced: finds Docker and compose, and
# containers by their compose labels. Runs in bash 3.2, which is what macOS has.
#
# Afterwards:
#   $file     the compose file, an absolute path once `need_docker` was called
#   compose   `docker compose` (v2) or `docker-compose` (1.29) on that file
#
# Exit codes of all these scripts: 0 done, 1 it did not work, 2 wrong usage, 3 something is missing
# (Docker, its engine, a file, a container), 4 not confirmed.
#
# Environment: COMPOSE_PROJECT_NAME  as for compose; default: the folder of the compose file
#              COMPOSE_COMMAND       what to run as compose; default: docker compose, docker-compose
#              NO_COLOR              no colours, also on a terminal

# shellcheck source=scripts/_venv.sh
. "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

# The four that are not 0.
# shellcheck disable=SC2034 # for the scripts that source this
readonly FAILED=1 MISUSED=2 MISSING=3 UNCONFIRMED=4

# How long servers may take to be healthy. On a machine with nothing else to do it is 5 s; one that is far too busy
# takes minutes, and what has failed for good is noticed at once (`gave_up`).
# shellcheck disable=SC2034
readonly START_SECONDS=300

readonly LINE_FILE=docker-compose-5-peer-multihop.yml
file=$LINE_FILE

# Results go to stdout, progress to stderr; each has colours only where it is a terminal.
good='' bad='' dim='' end=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  # shellcheck disable=SC2034 # for the scripts that source this
  good=$'\033[32m' bad=$'\033[31m' dim=$'\033[2m' end=$'\033[0m'
fi

# fail CODE MESSAGE...
fail() {
  local code=$1
  shift
  # shellcheck disable=SC2154 # of _venv.sh
  printf '%s%s:%s %s\n' "$red" "$(basename "$0")" "$plain" "$*" >&2
  exit "$code"
}

misused() { fail "$MISUSED" "$*; see $(basename "$0") --help"; }

# value_of OPTION NEXT: sets $value to what follows an option that needs a value.
value_of() {
  case ${2:-} in '' | -*) misused "$1 needs a value" ;; esac
  value=$2
}

# number_of OPTION NEXT: the same for a whole number from 1 to 999999999.
number_of() {
  value_of "$1" "${2:-}"
  case $value in
    *[!0-9]* | 0* | ??????????*) misused "$1 needs a whole number from 1 to 999999999, not '$value'" ;;
  esac
}

# confirm QUESTION: goes on only after "yes". Without a terminal nobody can say it: use --yes.
confirm() {
  local answer
  [ -z "${assume_yes:-}" ] || return 0
  [ -t 0 ] || fail "$UNCONFIRMED" "$1 Nothing was done: there is no terminal to confirm on; pass --yes (make: ARGS=-y)"
  printf '%s Type yes to go on: ' "$1" >&2
  read -r answer || answer=''
  [ "$answer" = yes ] || fail "$UNCONFIRMED" "not confirmed, nothing was done"
}

# --- the engine and compose

find_compose() {
  local answer
  if [ -n "${COMPOSE_COMMAND:-}" ]; then
    read -r -a compose_command <<<"$COMPOSE_COMMAND"
  elif docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose_command=(docker-compose)
  else
    fail "$MISSING" "neither 'docker compose' nor 'docker-compose' is installed:" \
      "https://docs.docker.com/compose/install/"
  fi
  answer=$("${compose_command[@]}" version 2>&1) ||
    fail "$MISSING" "'${compose_command[*]}' does not run: ${answer%%$'\n'*}"
}

# need_engine: an engine that answers.
need_engine() {
  local answer
  command -v docker >/dev/null ||
    fail "$MISSING" "Docker is not installed: https://docs.docker.com/engine/install/"
  answer=$(docker version --format '{{.Server.Version}}' 2>&1) || case $answer in
    *'permission denied'*)
      fail "$MISSING" "this user may not talk to the Docker engine: add it to the group 'docker' and log in again, or use sudo"
      ;;
    *) fail "$MISSING" "the Docker engine does not answer; is it running? (${answer%%$'\n'*})" ;;
  esac
}

# need_docker: an engine that answers, compose, and the compose file.
need_docker() {
  need_engine
  find_compose
  [ -r "$file" ] || fail "$MISSING" "there is no compose file $file"
  file=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")
  project=$(project_name)
}

# Always in the folder of the file: 1.29 looks for the seccomp profile from where it is started.
compose() { (cd "$(dirname "$file")" && "${compose_command[@]}" -f "$file" "$@"); }

# build_images [OPTION | SERVICE...]: images of the file, also of services in profiles, from the bases that
# docker/images.lock pins. Where no registry serves one, the local image of its tag is taken.
build_images() {
  local name pinned
  while read -r name pinned; do
    [ -z "${!name:-}$(env_value "$name")" ] || continue
    if docker image inspect "$pinned" >/dev/null 2>&1 || docker pull -q "$pinned" >/dev/null 2>&1; then
      export "$name=$pinned"
    else
      say "$pinned cannot be pulled; building from the local ${pinned%@*}, whose digest nobody has checked."
    fi
  done <<<"$(grep '^[A-Z]' "$root/docker/images.lock")"
  COMPOSE_PROFILES='*' compose build "$@" >&2
}

env_file() { printf '%s/.env\n' "$(dirname "$file")"; }

# env_value NAME: from .env beside the compose file; nothing when it is not there.
env_value() {
  [ -r "$(env_file)" ] || return 0
  sed -n "s/^[[:space:]]*$1=//p" "$(env_file)" | tail -n 1 | sed -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/"
}

# As compose makes it out.
project_name() {
  local name=${COMPOSE_PROJECT_NAME:-}
  [ -n "$name" ] || name=$(env_value COMPOSE_PROJECT_NAME)
  [ -n "$name" ] || name=$(basename "$(dirname "$file")")
  printf '%s' "$name" | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9_-' | sed 's/^[_-]*//'
}

# --- .env

random_hex() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# At random, so that a client of one cluster cannot write into another by mistake. Seven octets,
# which every tool reads as a whole number.
random_cluster_id() { od -An -v -N7 -tu8 <(head -c 7 /dev/urandom && printf '\0') | tr -d ' \n'; }

# What the file demands as ${NAME:?...}.
required_variables() {
  grep -v '^[[:space:]]*#' "$file" | grep -oE '[$][{][A-Z0-9_]+:?[?]' | tr -cd 'A-Z0-9_\n' | sort -u
}

# add_to_env NAME=VALUE...: appends lines to .env. Its last line may lack a newline.
add_to_env() {
  local target
  target=$(env_file)
  if [ -s "$target" ] && [ -n "$(tail -c 1 "$target")" ]; then
    echo >>"$target"
  fi
  printf '%s\n' "$@" >>"$target"
}

# make_env: writes .env with random secrets for all that the compose file demands, unless it is
# there already; then what it lacks is added and nothing is changed.
make_env() {
  local target name value added=()
  target=$(env_file)
  for name in $(required_variables); do
    value=$(env_value "$name")
    case ${!name:-$value} in
      '') ;;
      change-me*) fail "$MISSING" "$name has the value of the example, which connectors refuse: put a secret of your own into $target (openssl rand -hex 32)" ;;
      *) continue ;;
    esac
    case $name in
      *SECRET* | *KEY | *TOKEN | *PASSWORD) value=$(random_hex) ;;
      *) fail "$MISSING" "$name is not set: give it a value in $target (.env.production.example explains all)" ;;
    esac
    added+=("$name=$value")
  done
  # Not demanded, but without it Prometheus sees no balances.
  if [ -z "$(env_value METRICS_KEY)$(env_value METRICS_KEY_FILE)${METRICS_KEY:-}" ] && grep -q '[$]{METRICS_KEY' "$file"; then
    added+=("METRICS_KEY=$(random_hex)")
  fi
  # Not demanded, but 0 is for tests, and it cannot change once there are books.
  if [ ! -e "$target" ] && [ -z "${TIGERBEETLE_CLUSTER_ID:-}" ] && grep -q '[$]{TIGERBEETLE_CLUSTER_ID' "$file"; then
    added+=("TIGERBEETLE_CLUSTER_ID=$(random_cluster_id)")
  fi
  [ ${#added[@]} -gt 0 ] || return 0
  if [ ! -e "$target" ]; then
    (umask 077 && printf '%s\n' "# Made at random by $(basename "$0"). Keep it: the secrets of running peers are here." >"$target")
    say "Made $target with random secrets (mode 0600)."
  else
    say "Adding to $target what the compose file needs: $(printf '%s ' "${added[@]%%=*}")"
  fi
  add_to_env "${added[@]}"
}

# need_stack: the file can be read by compose, which needs its variables even to stop something.
need_stack() {
  local name
  need_docker
  for name in $(required_variables); do
    [ -n "$(env_value "$name")${!name:-}" ] ||
      fail "$MISSING" "$name is not set, and has no value in $(env_file): deploy-5-peer-multihop.sh up makes that file, .env.production.example explains it"
  done
  list_services
}

# list_services: sets $all_services, sorted: those without a profile, and of the others those that
# have a container. (`config --services` leaves the others out in v2 and lists them in 1.29.)
# $known_services: all of the file; $built_images: what `compose build` makes.
list_services() {
  local config name has_profile
  config=$(COMPOSE_PROFILES='*' compose config) || fail "$MISSING" "compose cannot read $file"
  # shellcheck disable=SC2034 # for the scripts that source this
  known_services=$(awk '
    /^[^ ]/ { inside = $1 == "services:" }
    inside && /^  [^ ]/ { gsub(/[:"]/, "", $1); print $1 }' <<<"$config" | sort)
  # shellcheck disable=SC2034
  built_images=$(awk '
    function done() { if (image != "" && built) print image; image = ""; built = 0 }
    /^[^ ]/ { done(); inside = $1 == "services:" }
    inside && /^  [^ ]/ { done() }
    inside && /^    build:/ { built = 1 }
    inside && /^    image:/ { image = $2; gsub(/["\047]/, "", image) }
    END { done() }' <<<"$config" | sort -u)
  all_services=$(awk '
    /^[^ ]/ { inside = $1 == "services:" }
    inside && /^  [^ ]/ { name = $1; gsub(/[:"]/, "", name); profile[name] = 0 }
    inside && /^    profiles:/ { profile[name] = 1 }
    END { for (name in profile) print name, profile[name] }' <<<"$config" |
    sort | while read -r name has_profile; do
    [ "$has_profile" = 1 ] && [ -z "$(container "$name")" ] || echo "$name"
  done)
}

# --- containers, by label

# container SERVICE: its id, also when it is stopped; nothing when there is none.
container() {
  docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False | head -n 1
}

need_container() {
  local id
  id=$(container "$1")
  [ -n "$id" ] || fail "$MISSING" "there is no container of service $1 in project $project"
  printf '%s\n' "$id"
}

# state ID: healthy, starting, unhealthy, or without a health check running, exited, ...
# A health check that passed says nothing once the container has stopped.
state() {
  docker inspect -f '{{if and .State.Running .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1" 2>/dev/null ||
    echo gone
}

# variable ID NAME: from the environment that the container was made with.
variable() { docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' "$1" | sed -n "s/^$2=//p"; }

# services_with NAME: services of the file whose containers have that variable.
services_with() {
  local service id
  for service in $all_services; do
    id=$(container "$service")
    [ -z "$id" ] || [ -z "$(variable "$id" "$1")" ] || echo "$service"
  done
}

connectors() { services_with NODE_ID; }
replicas() { services_with TIGERBEETLE_REPLICA_ID; }

is_running() { [ "$(docker inspect -f '{{.State.Running}}' "$1")" = true ]; }

# job_done ID: it was to end, and did so with 0.
job_done() {
  [ "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}' "$1")" = 'exited 0 no' ]
}

# gave_up ID: it has ended, or ends again and again. (Docker waits longer before each restart: one
# that was restarted five times is in that state most of the time.)
gave_up() {
  case $(docker inspect -f '{{.State.Status}} {{ge .RestartCount 5}}' "$1") in
    exited* | dead*) ! job_done "$1" ;;
    'restarting true') ;;
    *) return 1 ;;
  esac
}

# wait_healthy SECONDS SERVICE...: until each is healthy (or running, where it has no health check).
wait_healthy() {
  local seconds=$1 deadline service id now waiting broken
  shift
  deadline=$((SECONDS + seconds))
  while :; do
    waiting='' broken=''
    for service in "$@"; do
      id=$(container "$service")
      now=$([ -n "$id" ] && state "$id" || echo missing)
      case $now in
        healthy | running) ;;
        missing) waiting="$waiting $service (missing)" ;;
        *)
          if gave_up "$id"; then
            broken="$broken $service"
          elif ! job_done "$id"; then
            waiting="$waiting $service ($now)"
          fi
          ;;
      esac
    done
    [ -z "$broken" ] || break
    [ -n "$waiting" ] || return 0
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 0.3
  done
  if [ -n "$broken" ]; then
    say "Does not run:$broken"
  else
    say "Not healthy after $seconds s:$waiting"
  fi
  for service in "$@"; do explain "$service"; done
  return 1
}

# wait_caught_up SECONDS SERVICE: until a replica of a cluster, which is healthy as soon as its port is open,
# takes part again and is not behind the others. A single replica has nobody to be behind.
wait_caught_up() {
  local seconds=$1 service=$2 deadline id began now
  id=$(need_container "$service")
  [ "$(variable "$id" TIGERBEETLE_REPLICA_COUNT)" -gt 1 ] 2>/dev/null || return 0
  began=$(docker inspect -f '{{.State.StartedAt}}' "$id")
  deadline=$((SECONDS + seconds))
  while :; do
    # Its log begins lines with its number and status: `2R:` recovering, `2V:` view change, `2N:` normal, in
    # small letters where another one leads.
    now=$(docker logs --since "$began" "$id" 2>&1 | sed -n 's/^.*(replica): [0-9]*\([A-Za-z]\): .*$/\1/p' | tail -n 1)
    case $now in
      n | N)
        ! docker logs --since 2s "$id" 2>&1 | grep -qE 'lagging behind the cluster|ignoring \((syncing|vsr[.])' || now=behind
        ;;
    esac
    case $now in n | N) return 0 ;; esac
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 0.5
  done
  say "$service has not caught up with the other replicas after $seconds s (its status: ${now:-not in its log})"
  return 1
}

any_gave_up() {
  local service id
  for service in $all_services; do
    id=$(container "$service")
    [ -z "$id" ] || ! gave_up "$id" || return 0
  done
  return 1
}

# start_all SECONDS: all of the file, until healthy; of a profile, what has a container. Compose starts
# each service when those it depends on are healthy, and gives up when one is late: as long as that is
# all, and none has failed for good, what is left is started in another go.
start_all() {
  local deadline=$((SECONDS + $1)) said service
  # shellcheck disable=SC2086 # names of services have no spaces
  until said=$(compose up -d $all_services 2>&1 | tee >(cat >&2)); do
    # Said already, and not mended by waiting: a port that is taken, for example.
    case $said in
      *unhealthy*) ;;
      *)
        for service in $all_services; do explain "$service"; done
        return 1
        ;;
    esac
    if [ "$SECONDS" -ge "$deadline" ] || any_gave_up; then break; fi
    say "Compose could not start everything yet, going on ..."
  done
  list_services
  # shellcheck disable=SC2086 # names of services have no spaces
  wait_healthy $((SECONDS < deadline ? deadline - SECONDS : 1)) $all_services
}

# explain SERVICE: why it is not healthy, as far as Docker knows.
explain() {
  local id now
  id=$(container "$1")
  if [ -z "$id" ]; then
    say "--- $1: there is no container"
    return
  fi
  now=$(state "$id")
  # What was never started has nothing to say.
  case $now in healthy | running | created) return ;; esac
  ! job_done "$id" || return 0
  say "--- $1: $now, exit code $(docker inspect -f '{{.State.ExitCode}}, restarts {{.RestartCount}}, out of memory {{.State.OOMKilled}}' "$id")"
  docker inspect -f '{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{end}}{{end}}' "$id" | grep -v '^$' | tail -n 2 | sed 's/^/health check: /' >&2 || true
  docker logs --tail 3 "$id" 2>&1 | cut -c1-400 | sed 's/^/log: /' >&2
}

# --- connectors

# ask_node ID: lines of what the node says of itself and of its accounts; see _node.py.
ask_node() { docker exec -i "$1" python - <"$root/scripts/_node.py"; }

# ask_nodes SERVICE...: the same of all; one that does not answer is named, and the result is 1.
ask_nodes() {
  local service id result=0
  for service in "$@"; do
    id=$(container "$service")
    if [ -z "$id" ] || ! ask_node "$id" 2>/dev/null; then
      say "$service does not answer"
      result=1
    fi
  done
  return $result
}

# print_nodes <LINES: one row a node.
print_nodes() {
  awk -F '\t' '
    BEGIN { printf "%-14s %-16s %-10s %-28s %-7s %s\n", "NODE", "ADDRESS", "STATUS", "ACCOUNTING", "LINKS", "FULFILLED" }
    $1 == "node" { printf "%-14s %-16s %-10s %-28s %-7s %s\n", $2, $3, $4, $5, $6, $7 }'
}

# print_links <LINES: both sides of every link, and whether they mirror each other. Numbers are
# made text (by ""), and so compared as text: they do not fit into those of awk. Fails when a link does not mirror.
print_links() {
  awk -F '\t' -v good="$good" -v bad="$bad" -v end="$end" '
    $1 == "account" { key = $2 SUBSEP $3 SUBSEP $4; order[++count] = key
      node[key] = $2; peer[key] = $3; asset[key] = $4; debit[key] = $5 ""; credit[key] = $6 ""; net[key] = $7 ""
      if ($8 != "0" || $9 != "0") held[key] = 1 }
    function words(n) { return n == "0" ? "even" : n ~ /^-/ ? "owes " substr(n, 2) : "is owed " n }
    END {
      printf "%-29s %-8s %16s %16s  %s\n", "LINK", "ASSET", "DEBITED", "CREDITED", "IN WORDS"
      for (i = 1; i <= count; i++) {
        key = order[i]; other = peer[key] SUBSEP node[key] SUBSEP asset[key]
        printf "%-29s %-8s %16s %16s  %s", node[key] " with " peer[key], asset[key], debit[key], credit[key], node[key] " " words(net[key])
        if (!(other in node)) { printf "\n"; continue }
        pairs++
        if (debit[key] == credit[other] && credit[key] == debit[other]) printf "  %smirrored%s\n", good, end
        else { printf "  %s%s%s\n", bad, (held[key] || held[other]) ? "in flight" : "NOT MIRRORED", end; faults++ }
      }
      exit faults > 0
    }'
}

# last_checks ID: the last three health checks, newest last: when (UTC, as Docker has it), and what came of it.
last_checks() {
  docker inspect -f '{{if .State.Health}}{{range .State.Health.Log}}{{.Start}} {{.ExitCode}}{{println}}{{end}}{{end}}' "$1" |
    grep -v '^$' | tail -n 3 |
    sed -e 's/^[^ ]* \([0-9:]*\)[^ ]* .* \([0-9]*\)$/\1 \2/' -e 's/ 0$/ ok/' -e 's/ [0-9][0-9]*$/ failed/' |
    tr '\n' ',' | sed -e 's/,$//' -e 's/,/, /g'
}

# short_time TIME: as Docker gives it, without the fraction. (What is portable ends there.)
short_time() { printf '%s\n' "${1%%.*}Z" | sed 's/ZZ$/Z/'; }

# --- backups: a folder a backup, in it one compressed data file a replica, and MANIFEST:
#   made TIME, release VERSION, cluster ID, count REPLICAS
#   replica ID SERVICE FILE OCTETS SHA256      one line each; the checksum is of FILE.gz
# The manifest is written last: a folder without one is no backup.

readonly SECCOMP=docker/tigerbeetle/seccomp.json

# in_tigerbeetle ID DOCKER-OPTIONS... -- SCRIPT [ARGUMENT...]: a shell script in a container of the
# image that ID runs, with its tools and as root, beside the server.
in_tigerbeetle() {
  local image options=() program
  image=$(docker inspect -f '{{.Image}}' "$1")
  shift
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  program=$2
  shift 2
  # TigerBeetle inspects files through io_uring too.
  docker run --rm --network none --user 0:0 --no-healthcheck --security-opt "seccomp=$SECCOMP" \
    ${options[@]+"${options[@]}"} --entrypoint sh "$image" -euc "$program" sh "$@"
}

# manifest FOLDER WORD: the rest of the lines that begin with WORD.
manifest() { sed -n "s/^$2 //p" "$1/MANIFEST"; }

# backups FOLDER: the names of all that are complete, oldest first.
backups() {
  local one
  for one in "$1"/*/MANIFEST; do
    [ ! -e "$one" ] || basename "$(dirname "$one")"
  done | sort
}

# What `inspect integrity` of 0.17.9 does to a file that has no grid yet is die of a division. It dies
# as well of a server that was stopped while it wrote: the last prepares in the log (8 are under way
# at most) are not among its redundant headers then. A start mends that, as it does after a crash.
# shellcheck disable=SC2016 # expanded in the container
readonly INSPECT='
inspect() {
  skip=""
  /tigerbeetle inspect superblock "$1" >/tmp/superblock 2>/tmp/said || { tail -n 3 /tmp/said >&2; return 1; }
  ! grep -q "free_set_blocks_acquired_size=0$" /tmp/superblock || skip=--skip-grid
  /tigerbeetle inspect integrity $skip "$1" >/tmp/said 2>&1 && return
  last=$(/tigerbeetle inspect wal "$1" 2>/dev/null | grep -c "^_|") || true
  [ "$last" -ge 1 ] && [ "$last" -le 8 ] && /tigerbeetle inspect integrity --skip-wal $skip "$1" >/tmp/said 2>&1 && return
  tail -n 3 /tmp/said >&2
  return 1
}'

# verify_backup FOLDER ID: in a container of the image of ID, compares it with its checksum, unpacks
# it, and lets TigerBeetle check the checksums of its own.
verify_backup() {
  local service name octets sum
  while read -r _ service name octets sum; do
    # shellcheck disable=SC2016 # expanded in the container
    in_tigerbeetle "$2" -v "$1:/backup:ro" -v /scratch -- "$INSPECT"'
      [ -e "/backup/$1.gz" ] || { echo "$1.gz is missing" >&2; exit 1; }
      found=$(sha256sum "/backup/$1.gz" | cut -d " " -f 1)
      [ "$found" = "$3" ] || { echo "$1.gz: SHA-256 is $found, MANIFEST says $3" >&2; exit 1; }
      gunzip -c "/backup/$1.gz" >"/scratch/$1" && [ "$(stat -c %s "/scratch/$1")" = "$2" ] ||
        { echo "$1.gz cannot be unpacked; is the disk of the engine full?" >&2; exit 1; }
      inspect "/scratch/$1"' "$name" "$octets" "$sum" </dev/null || {
      say "$service: its data file in $1 is damaged"
      return 1
    }
  done <<<"$(manifest "$1" replica)"
}
