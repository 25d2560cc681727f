#!/usr/bin/env bash
# Measures Lockstep against PyTorch DistributedDataParallel side by side on this machine: a table, and JSON under
# target/bench/. All works, or those that are named: `tests/bench/run.sh full-fp32 head --rounds 5`; `--help` tells more.
# README.md beside this says what is measured, how, and what came out. Nothing else should run on the machine.
#
#   LOCKSTEP_BENCH_PYTHON  a Python with torch, torchvision, numpy and pillow (default: python3)
#   LOCKSTEP_SHARED        the folder with reference/pytorch_ddp.py and data/make-cifar10 (default: ../shared)
#   LOCKSTEP_BENCH_CACHE   where data set and weights are kept (default: ~/.cache/lockstep-bench)
#   LOCKSTEP_BIN           a folder with lockstep, lockstep-worker and exchange (default: cargo builds them)
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHONPATH=tests/bench exec python3 -m side_by_side "$@"
