#!/usr/bin/env bash
# Measures what changes of membership cost, and what the readiness for them costs an undisturbed run. Prints a table, and
# JSON after `--json FILE`. Options go to the program: `--only kill`, `--trials 20`, `--base FOLDER` with the binaries of an
# older build to compare with. Nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked --quiet -p lockstep-coordinator -p lockstep-worker -p bench
exec target/release/elasticity "$@"
