#!/usr/bin/env bash
# Fuzzes what reads bytes that others wrote. Needs cargo-fuzz (cargo install cargo-fuzz) and libtorch (deploy/libtorch.sh).
#
#   tests/fuzz/run.sh [SECONDS [TARGET...]]      default: 600 seconds for each of recipe, manifest, journal and frames
#
# What it finds interesting goes to target/fuzz/corpus/TARGET, and a few of it to tests/fuzz/seeds/TARGET, where the ordinary tests
# take it up. A crash ends it: what crashed lies in tests/fuzz/artifacts/TARGET until it is mended and moved to the seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo fuzz --version >/dev/null 2>&1 || { echo 'run.sh: cargo-fuzz is missing: cargo install cargo-fuzz' >&2; exit 1; }
[ "${1:-}" != --help ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0; }
seconds=${1:-600}
shift $(($# > 0))
[ $# -gt 0 ] || set -- recipe manifest journal frames

# The compiler's own coverage, which a stable one has too, but not by default.
export RUSTC_BOOTSTRAP=1
fuzz() { cargo fuzz "$1" --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none "${@:2}"; }

# Of an input. Frames go over real connections, thousands a second: now and then one waits for a port to be free again.
readonly patience_s=60

for target in "$@"; do
  corpus=target/fuzz/corpus/$target
  mkdir -p "$corpus"
  echo "== $target, $seconds s"
  fuzz run "$target" "$corpus" "tests/fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=2048 -timeout=$patience_s -print_final_stats=1
done
