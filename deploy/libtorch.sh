#!/usr/bin/env bash
# Puts libtorch 2.11.0 under .libtorch/, where .cargo/config.toml expects it.
#
#   deploy/libtorch.sh [cpu|cuda]     default: cuda where an NVIDIA driver answers, else cpu
#
# The library is the one inside the `torch` wheel of the Python package index, fetched and verified by
# pip alone. `cpu` adds the two small companions that libtorch_cpu itself links (530 MB in all); `cuda`
# adds every library that the wheel asks for (about 2.5 GB). Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly torch_version=2.11.0
readonly home=.libtorch

fail() { printf 'libtorch.sh: %s\n' "$1" >&2; exit 1; }

default_flavor() { if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then echo cuda; else echo cpu; fi; }
flavor=${1:-$(default_flavor)}
case $flavor in cpu | cuda) ;; *) fail "unknown flavor '$flavor': say cpu or cuda" ;; esac

stamp="$home/flavor"
want="$torch_version $flavor"
have=$(cat "$stamp" 2>/dev/null || true)
# A cuda installation holds everything that the cpu one does.
if [ "$have" = "$want" ] || [ "$have" = "$torch_version cuda" ]; then
  echo "libtorch $have is in place"
  exit 0
fi

command -v python3 >/dev/null || fail 'python3 is missing: apt-get install python3 python3-venv'
[ "$(uname -m)" = x86_64 ] || fail "libtorch $torch_version is set up here for x86_64 only, this is $(uname -m)"
if [ ! -x "$home/venv/bin/pip" ]; then
  rm -rf "$home/venv"
  mkdir -p "$home"
  python3 -m venv "$home/venv" || fail 'python3 cannot make a virtual environment: apt-get install python3-venv'
fi
pip() { "$home/venv/bin/pip" install --disable-pip-version-check --quiet --only-binary :all: "$@" || fail 'pip could not install libtorch (see above): is the Python package index reachable, is the disk full?'; }

echo "fetching libtorch $torch_version ($flavor) ..."
if [ "$flavor" = cuda ]; then
  pip "torch==$torch_version"
else
  # The versions that the wheel's metadata names (CUDA toolkit 13.0.2).
  pip --no-deps "torch==$torch_version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
fi

site=$("$home/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
[ -f "$site/torch/lib/libtorch_cpu.so" ] || fail "the wheel holds no libtorch_cpu.so in $site/torch/lib"
# One path whatever the Python version, relative so that the checkout can move.
ln -sfn "${site#"$PWD/$home/"}" "$home/site-packages"
ln -sfn site-packages/torch "$home/torch"
echo "$want" >"$stamp"
echo "libtorch $want is in place"
