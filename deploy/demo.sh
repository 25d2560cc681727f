#!/usr/bin/env bash
# The main job in a few minutes, with nothing to download but libtorch: two workers fine-tune a ResNet18 on
# drawn shapes, step by step together, and the best model lies in the run's folder at the end.
#
#   deploy/demo.sh [ARGUMENTS OF lockstep train]
set -euo pipefail
cd "$(dirname "$0")/.."

. deploy/needs.sh
need_tools
deploy/libtorch.sh
cargo build --release --locked --quiet --package lockstep-coordinator --package lockstep-worker
exec target/release/lockstep train deploy/recipes/demo.toml --name "demo-$(date +%Y%m%d-%H%M%S)" "$@"
