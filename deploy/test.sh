#!/usr/bin/env bash
# Sets up what is missing and runs every check: formatting, lints, all tests. Needs cargo, a C++ compiler
# and python3 with venv; a GPU is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."

. deploy/needs.sh
need_tools
cargo fmt --version >/dev/null 2>&1 || missing 'rustfmt is missing: rustup component add rustfmt'
cargo clippy --version >/dev/null 2>&1 || missing 'clippy is missing: rustup component add clippy'

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# Fetched beside what is compiled; where that fails, the containers' own step says why.
if docker version >/dev/null 2>&1 && command -v debootstrap >/dev/null && [ "$(id -u)" = 0 ]; then
  deploy/base-image.sh >/dev/null 2>&1 &
  base_image=$!
fi
step 'libtorch'
deploy/libtorch.sh
step 'formatting'
cargo fmt --all --check
# Python's packages come while Rust's are compiled. Who needs them and does not find them says so.
{ tests/system/s3-server.sh && { [ "${LOCKSTEP_SKIP_PARITY:-}" = 1 ] || tests/parity/pytorch.sh; }; } &
packages=$!
step 'lints'
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step 'compiling the tests'
cargo test --workspace --locked --quiet --no-run
wait "$packages" || true
step 'tests'
cargo test --workspace --locked --quiet --no-fail-fast
step "the bench's arithmetic"
PYTHONPATH=tests/bench python3 -m unittest discover --quiet -s tests/bench/side_by_side -t tests/bench
step 'deployment files, networks and containers'
cargo build --workspace --bins --locked --quiet
[ -z "${base_image:-}" ] || wait "$base_image" || true
export LOCKSTEP_BIN=target/debug
tests/containers/run.sh attacks # compares times, and so runs alone
# The others wait more than they compute.
tests/containers/run.sh slurm networks >target/containers-beside.log 2>&1 &
beside=$!
failed=no
tests/containers/run.sh files cluster || failed=yes
wait "$beside" || failed=yes
cat target/containers-beside.log
[ "$failed" = no ]
step 'passed'
