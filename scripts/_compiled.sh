# shellcheck shell=bash
# For the scripts beside it, to be sourced after _venv.sh: runs what they start on the compiled core.
# shellcheck disable=SC2154 # python and root are set there

# What compiles the core: the environment of `scripts/test` has it, that of `scripts/demo` has not.
has_compiler() {
  "$python" -c 'import mypyc, setuptools' >/dev/null 2>&1 && return
  say "Installing what compiles the core ..."
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip install -qq --no-input --require-hashes \
    -r requirements/build.txt >/dev/null 2>&1
}

# compile_core: what is started runs on the compiled core, where it can be compiled. After `venv`.
compile_core() {
  local compiled=$root/build/compiled said
  if ! command -v "${CC:-cc}" >/dev/null; then
    say "No C compiler: the core is interpreted, at less than half the speed."
    return
  fi
  if ! has_compiler; then
    say "mypy and setuptools cannot be installed from a package index: the core is interpreted."
    return
  fi
  [ -e "$compiled/sources.sha256" ] || say "Compiling the core ..."
  said=$("$python" hatch_compile.py package "$compiled" 2>&1) || {
    echo "$said" >&2
    die "it could not be compiled; --interpreted runs without"
  }
  export PYTHONPATH=$compiled${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
}
