# shellcheck shell=bash
# Sourced by the other scripts: says in one line what this machine lacks, and brings what Python's package index has.

missing() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

need_tools() {
  command -v cargo >/dev/null || missing 'cargo is missing: see https://rustup.rs'
  command -v c++ >/dev/null || missing 'a C++ compiler is missing: apt-get install g++'
  command -v python3 >/dev/null || missing 'python3 is missing: apt-get install python3 python3-venv'
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing 'python3 cannot make virtual environments: apt-get install python3-venv'
}

need_docker() {
  command -v docker >/dev/null || missing 'docker is missing: apt-get install docker.io'
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    missing 'no Docker engine answers: is it running (systemctl start docker), may you use it (group docker)?'
}

# A virtual environment at $1 with what the file $2 requires, made once; false, after pip has said why, where it cannot be.
# Little of it is ever imported, so nothing is compiled in advance.
python_environment() {
  local made
  made=$(python3 --version && cat "$2")
  [ "$(cat "$1/made" 2>/dev/null)" != "$made" ] || return 0
  rm -rf "$1"
  mkdir -p "${1%/*}"
  if python3 -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --no-compile --only-binary :all: --requirement "$2"; then
    echo "$made" >"$1/made"
  else
    rm -rf "$1"
    return 1
  fi
}
