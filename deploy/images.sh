#!/usr/bin/env bash
# Builds the container images out of what the host builds: binaries, and the few files of libtorch that they load.
#
#   deploy/images.sh [--base IMAGE] [--tag TAG] [--bin DIR] [TARGET...]
#
# TARGET: coordinator, worker-cpu, worker-cuda (default: coordinator and worker-cpu, and worker-cuda where
# deploy/libtorch.sh has fetched libtorch for CUDA). They are called lockstep-TARGET:TAG; TAG is the version of Cargo.toml.
#
#   --base   an image whose C library is as new as this machine's; default: what deploy/base-image.sh makes
#   --bin    a folder with lockstep and lockstep-worker; default: they are built here, in release mode
#   LOCKSTEP_REGISTRY  goes before the names, as in registry.example.org/team/
set -euo pipefail
cd "$(dirname "$0")/.."

. deploy/needs.sh

readonly context=target/images
readonly wheel=.libtorch/site-packages

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; }

base='' tag='' bin='' targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --base | --tag | --bin)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    coordinator | worker-cpu | worker-cuda) targets+=("$1") ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

need_docker
command -v strip >/dev/null || missing 'strip is missing: apt-get install binutils'
command -v readelf >/dev/null || missing 'readelf is missing: apt-get install binutils'

if [ -z "$bin" ]; then
  need_tools
  deploy/libtorch.sh
  cargo build --release --locked --quiet --package lockstep-coordinator --package lockstep-worker
  bin=target/release
fi
for binary in lockstep lockstep-worker; do
  [ -x "$bin/$binary" ] || missing "$bin/$binary is not there: cargo build --release"
done
flavor=$(cat .libtorch/flavor 2>/dev/null) || missing 'libtorch is not there: deploy/libtorch.sh'
if [ ${#targets[@]} = 0 ]; then
  targets=(coordinator worker-cpu)
  [ "${flavor##* }" != cuda ] || targets+=(worker-cuda)
fi
: "${tag:=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)}"
if [ -z "$base" ]; then
  base=$(deploy/base-image.sh)
  echo "$base"
  base=${base##*$'\n'}
  base=${base%% is in place*}
fi

# Without symbols, which are a fifth of libtorch and half of the binaries. NVIDIA's have none, and stay as they are.
lay_out() {
  local from=$1 to=$context/$2
  mkdir -p "${to%/*}"
  cp --dereference "$from" "$to.new"
  case $from in "$wheel"/nvidia/*) ;; *) strip --strip-unneeded "$to.new" ;; esac
  mv "$to.new" "$to"
}

needed() { readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

# Where a library of the wheel lies; nothing for what the base image has.
in_wheel() {
  find "$wheel/torch/lib" "$wheel"/nvidia/*/lib -maxdepth 1 -name "$1" -print -quit 2>/dev/null
}

# Lays out libraries and what they need of the wheel, at the places that the wheel gives them: they find each other by these.
lay_out_libraries() {
  local folder=$1 library place
  shift
  for library in "$@"; do
    place=${library#"$wheel"/}
    # A CUDA image has the CPU image's layer below it.
    [ -e "$context/libtorch-cpu/$place" ] || [ -e "$context/$folder/$place" ] && continue
    # Last, so that a library that is there has all its needs there too.
    lay_out_needs "$folder" "$library"
    lay_out "$library" "$folder/$place"
  done
}

lay_out_needs() {
  local folder=$1 name
  for name in $(needed "$2"); do
    # shellcheck disable=SC2046 # nothing, or a path of the wheel's
    lay_out_libraries "$folder" $(in_wheel "$name")
  done
}

# Libraries that are laid out stay for the next time, those of another libtorch do not.
if [ "$(cat "$context/flavor" 2>/dev/null)" != "$flavor" ]; then
  rm -rf "$context"
  mkdir -p "$context/scripts"
  cp .libtorch/flavor "$context/"
fi
cp deploy/containers/* "$context/scripts/"
cp deploy/Dockerfile "$context/"
lay_out "$bin/lockstep" coordinator/lockstep
case " ${targets[*]} " in
  *' worker-'*)
    lay_out "$bin/lockstep-worker" worker/lockstep-worker
    lay_out_needs libtorch-cpu "$bin/lockstep-worker"
    ;;
esac
case " ${targets[*]} " in
  *' worker-cuda '*)
    [ "${flavor##* }" = cuda ] || missing 'worker-cuda needs libtorch for CUDA: deploy/libtorch.sh cuda'
    # What the worker or a library loads by name while it runs, and no header names.
    lay_out_libraries libtorch-cuda "$wheel"/torch/lib/lib{torch_cuda,torch_cuda_linalg,caffe2_nvrtc}.so \
      "$wheel"/nvidia/{cudnn/lib/libcudnn*,cu13/lib/libnvrtc{,-builtins},nccl/lib/libnccl}.so*
    ;;
esac

# What a target's layers are made of, the Dockerfile's earlier targets included: builders without BuildKit make those too.
parts_of() {
  case $1 in
    coordinator) echo Dockerfile scripts coordinator ;;
    worker-cpu) echo Dockerfile scripts coordinator worker libtorch-cpu ;;
    worker-cuda) echo Dockerfile scripts coordinator worker libtorch-cpu libtorch-cuda ;;
  esac
}

size() { docker image inspect --format '{{.Size}}' "$1"; }

for target in "${targets[@]}"; do
  name=${LOCKSTEP_REGISTRY:-}lockstep-$target:$tag
  # shellcheck disable=SC2046 # a list
  tar --directory "$context" --owner=0 --group=0 --create $(parts_of "$target") |
    docker build --quiet --target "$target" --tag "$name" --build-arg "BASE=$base" --build-arg "VERSION=$tag" \
      --build-arg "REVISION=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)" - >/dev/null
  # Loads all that the target has, on the base that it was given.
  case $target in coordinator) says=--version ;; *) says=devices ;; esac
  said=$(docker run --rm --network none --read-only "$name" "$says" 2>&1) || {
    echo "$said" >&2
    missing "$name does not start (see above): does $base have a C library as new as this machine's?"
  }
  echo "$name: $(($(size "$name") / 1000000)) MB, of which $((($(size "$name") - $(size "$base")) / 1000000)) MB on top of $base"
done
