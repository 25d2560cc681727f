#!/usr/bin/env bash
# Checks Lockstep on a machine with NVIDIA GPUs: that results are right, then how fast it is beside PyTorch. Needs no cargo:
# it takes binaries that were built elsewhere, and the libtorch of a Python installation. Says so and ends well where there
# is no GPU. `run.sh losses exact` runs only those; README.md beside this lists them.
#
#   LOCKSTEP_BIN     the folder with lockstep and lockstep-worker (default: target/release)
#   LOCKSTEP_PYTHON  a Python with torch 2.11 and torchvision (default: python3)
#   LOCKSTEP_SHARED  the folder with reference/pytorch_ddp.py (default: ../shared); without it there is no comparison
#   LOCKSTEP_OUT     where the figures go, as JSON, and the logs of what failed (default: target/gpu)
#   LOCKSTEP_REHEARSE=1  on the CPU, tiny: shows that the checks themselves work
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly python=${LOCKSTEP_PYTHON:-python3}
if [ "${LOCKSTEP_REHEARSE:-}" != 1 ] && ! { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }; then
  echo 'skipped: this machine has no NVIDIA GPU (LOCKSTEP_REHEARSE=1 rehearses on the CPU)'
  exit 0
fi
if ! "$python" -c 'import sys, torch; sys.exit(not torch.__version__.startswith("2.11."))' 2>/dev/null; then
  echo "run.sh: $python has no torch 2.11, whose libtorch the binaries need" >&2
  echo 'hint: pip install torch==2.11.0 torchvision==0.26.0, or name another Python in LOCKSTEP_PYTHON' >&2
  exit 2
fi
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/gpu exec "$python" -m checks "$@"
