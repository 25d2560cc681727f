#!/usr/bin/env bash
# Brings PyTorch to target/parity/venv, for the tests that compare with it; done once: 2.5 GB of downloads.
set -euo pipefail
cd "$(dirname "$0")/../.."

. deploy/needs.sh

mkdir -p target/parity
exec 9>target/parity/.venv.lock
flock 9
python_environment target/parity/venv tests/parity/requirements.txt ||
  missing 'PyTorch could not be installed (see above): is the Python package index reachable, is the disk full?'
