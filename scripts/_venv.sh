# shellcheck shell=bash
# For the scripts beside it, to be sourced. Afterwards:
#   $root     the folder of the project, which is the current one
#   $python   the interpreter of .venv, once `venv base` or `venv dev` was called
# PYTHON names the interpreter that .venv is made with; default: the first that is new enough. A .venv
# of another version than PYTHON is made again.

# Whatever the shell says: every process of a test would compile all modules again.
unset PYTHONDONTWRITEBYTECODE

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
python=$root/.venv/bin/python
stamp=$root/.venv/installed

bold='' red='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\033[1m' red=$'\033[31m' plain=$'\033[0m'
fi

say() { printf '%s%s%s\n' "$bold" "$*" "$plain" >&2; }

die() {
  printf '%s%s:%s %s\n' "$red" "$(basename "$0")" "$plain" "$*" >&2
  exit 1
}

# usage "$1": prints the comment at the head of the calling script when asked for help.
usage() {
  case ${1:-} in
    -h | --help)
      sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
      exit 0
      ;;
  esac
}

python_version() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Whatever .venv is made of already: what PYTHON names is meant, or the caller is told why not.
check_named_python() {
  local found
  [ -n "${PYTHON:-}" ] || return 0
  found=$(python_version "$PYTHON") || die "PYTHON=$PYTHON cannot be run; unset it, or name another one"
  new_enough "$PYTHON" || die "PYTHON=$PYTHON is Python $found: 3.11 or newer is needed"
}

find_python() {
  local candidate without_venv=
  for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
    # A name on PATH may be a shim with nothing behind it: only one that runs counts.
    new_enough "$candidate" || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
    without_venv=${without_venv:-$candidate}
  done
  if [ -n "$without_venv" ]; then
    die "$without_venv has no venv; install it (Debian, Ubuntu: apt-get install python3-venv)"
  fi
  die "Python 3.11 or newer is needed; found: $(python3 --version 2>&1 || echo none)." \
    "Install one, or name it: PYTHON=/path/to/python3 $0"
}

# What the explorer page is made of; a change of it asks for an installation, which builds it.
page_sources() { find explorer-ui -name node_modules -prune -o -type f -print | LC_ALL=C sort; }

# install base|dev: what is locked in requirements/, then the package, linked. Without a way to build the
# explorer page it goes on without it.
install() {
  local log=$root/.venv/install.log
  local locked=(-r requirements/dev.txt)
  [ "$1" = dev ] || locked=(-r requirements/runtime.txt -r requirements/build.txt)
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  local pip=("$python" -m pip install -qq --no-input)
  local package=("${pip[@]}" --no-deps --no-build-isolation -e .)
  "${pip[@]}" --require-hashes "${locked[@]}" >"$log" 2>&1 || {
    cat "$log" >&2
    die "pip could not install what requirements/ locks; is there a way to a package index that has it?"
  }
  # Node from the index, where the page is to be built and PATH has none.
  if [ "${CONNECTOR_UI:-}" != skip ] && "$python" -c '
import sys, hatch_build
sys.exit(not hatch_build.needs_build(hatch_build.ROOT) or hatch_build.node_on_path() is not None)' 2>>"$log"; then
    "${pip[@]}" --require-hashes -r requirements/page.txt >>"$log" 2>&1 || true
  fi
  "${package[@]}" >>"$log" 2>&1 && return
  if [ "${CONNECTOR_UI:-}" != skip ] && CONNECTOR_UI=skip "${package[@]}" >>"$log" 2>&1; then
    say "Installed WITHOUT the explorer page, which could not be built: ${log#"$root/"} says why."
    say "Everything else works. To try again: rm .venv/installed, then run this again."
    return
  fi
  cat "$log" >&2
  die "the package could not be installed"
}

# venv base|dev: makes .venv and installs the package into it, unless that is done already.
# The package is linked, not copied: a change of its Python source needs no installation.
venv() {
  local kind=$1 wanted has='' other='' candidate began=$SECONDS
  check_named_python
  # shellcheck disable=SC2046 # names without spaces, of our own
  wanted="$(cat requirements/*.txt pyproject.toml connector/version.py hatch_build.py hatch_compile.py $(page_sources) | cksum) $root"
  [ -r "$stamp" ] && has=$(cat "$stamp")
  if [ -n "${PYTHON:-}" ] && [ "$(python_version "$PYTHON")" != "$(python_version "$python")" ]; then
    other=yes
  fi
  if [ -z "$other" ] && { [ "$has" = "dev $wanted" ] || [ "$has" = "$kind $wanted" ]; }; then
    new_enough "$python" && return
  fi
  # Once with the tools of development, always with them.
  case $has in dev\ *) kind=dev ;; esac
  if [ -n "$other" ] || ! new_enough "$python" || [[ $has != *" $root" ]]; then
    candidate=$(find_python) || exit 1
    say "Making .venv with $("$candidate" --version) ..."
    "$candidate" -m venv --clear .venv || die "cannot make .venv with $candidate"
  fi
  rm -f "$stamp"
  say "Installing the package and what it needs ..."
  install "$kind"
  printf '%s %s\n' "$kind" "$wanted" >"$stamp"
  say "Installed in $((SECONDS - began)) s."
}
