#!/usr/bin/env bash
# Checks what lies in deploy/ for containers, Kubernetes, Slurm and systemd.
#
#   tests/containers/run.sh [files|slurm|networks|attacks|cluster]...     default: all
#
# files    schemas, and that files agree with each other; seconds. What needs a tool that is not here is skipped, and says so
# slurm    the batch script with a stand-in for Slurm's own commands; a minute
# networks hosts in network namespaces, with latency, losses and partitions between them; minutes. Skipped, with a word, for
#          users who may not make any
# attacks  strangers at every port of a cluster that trains: slow ones, garbage, oversized frames; a minute
# cluster  builds the images, starts deploy/compose.yaml, disturbs a run and compares its weights with this host's; minutes.
#          Skipped, with a word, where no Docker engine answers
#
#   LOCKSTEP_BIN  the folder with lockstep and lockstep-worker (default: target/release)
set -euo pipefail
cd "$(dirname "$0")/../.."

. deploy/needs.sh

readonly venv=target/containers/venv
bin=${LOCKSTEP_BIN:-target/release}

tests() {
  PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/containers LOCKSTEP_BIN=$(realpath --canonicalize-missing "$bin") "$@"
}

files() {
  python_environment "$venv" tests/containers/requirements.txt || {
    echo 'skipped: the Kubernetes schemas could not be installed (see above)'
    return
  }
  tests "$venv/bin/python" -m unittest discover --start-directory tests/containers/files --top-level-directory tests/containers
}

# The first failure ends it: what follows builds on what went before.
of_binaries() {
  for binary in lockstep lockstep-worker; do
    [ -x "$bin/$binary" ] || { echo "run.sh: $bin/$binary is not there" >&2; echo 'hint: cargo build --release' >&2; exit 2; }
  done
  tests python3 -m unittest discover --verbose --failfast --start-directory "tests/containers/$1" --top-level-directory tests/containers
}

[ $# -gt 0 ] || set -- files slurm networks attacks cluster
for part in "$@"; do
  case $part in
    files) files ;;
    slurm | networks | attacks | cluster) of_binaries "$part" ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
