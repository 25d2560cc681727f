#!/usr/bin/env bash
# Makes a small Debian base image out of Debian's packages alone, for machines that reach no container registry.
#
#   deploy/base-image.sh [--suite NAME] [--mirror URL] [--security-mirror URL] [--fresh] [TAG]
#
# TAG: lockstep-base:SUITE. Suite and mirrors: this machine's own, where it runs Debian, so that the image has the C
# library that the binaries were built against. What is in place already stays, unless --fresh asks for today's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

. deploy/needs.sh

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }

# Where this machine's apt takes the packages of `suite` from, by apt's own account.
# shellcheck disable=SC2016 # apt fills these in
mirror_of() {
  command -v apt-get >/dev/null || return 0
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk -v suite="$1" '$1 == suite { sub("/$", "", $2); print $2; exit }'
}

suite='' mirror='' security_mirror='' tag='' fresh=no
while [ $# -gt 0 ]; do
  case $1 in
    --suite | --mirror | --security-mirror)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      printf -v "$(tr - _ <<<"${1#--}")" %s "$2"
      shift
      ;;
    --fresh) fresh=yes ;;
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) tag=$1 ;;
  esac
  shift
done

if [ -z "$suite" ]; then
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || suite=bookworm
fi
: "${mirror:=$(mirror_of "$suite")}" "${mirror:=http://deb.debian.org/debian}"
: "${security_mirror:=$(mirror_of "$suite-security")}" "${security_mirror:=http://deb.debian.org/debian-security}"
: "${tag:=lockstep-base:$suite}"

need_docker
if [ "$fresh" = no ] && docker image inspect "$tag" >/dev/null 2>&1; then
  echo "$tag is in place"
  exit 0
fi
command -v debootstrap >/dev/null || missing 'debootstrap is missing: apt-get install debootstrap'
[ "$(id -u)" = 0 ] || missing 'debootstrap makes a root file system, which root alone may do: sudo deploy/base-image.sh'

work=$(mktemp -d)
# One file system only: if debootstrap was stopped halfway, /proc is still mounted below.
trap 'umount --quiet "$work/root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
root=$work/root

echo "making $tag out of $suite from $mirror ..."
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" >"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  missing "debootstrap failed (see above): is $mirror reachable, has it the suite $suite?"
}

# debootstrap takes the suite as it was released; what was mended since comes from two more.
cat >"$root/etc/apt/sources.list" <<SOURCES
deb $mirror $suite main
deb $mirror $suite-updates main
deb $security_mirror $suite-security main
SOURCES
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
upgrade() { in_root apt-get -qq update && in_root apt-get -qq -y -o Dpkg::Use-Pty=0 upgrade && in_root apt-get -qq clean; }
upgrade >"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  missing "the security updates could not be installed (see above): is $security_mirror reachable?"
}

# Nothing of this machine, and nothing that only a person at a terminal would miss. Licences stay.
rm -rf "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/machine-id \
  "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/log/* "$root"/tmp/* \
  "$root"/usr/share/{info,locale,man,lintian,bug} "$root"/debootstrap
find "$root/usr/share/doc" -depth -mindepth 1 ! -type d ! -name copyright -delete
find "$root/usr/share/doc" -depth -mindepth 1 -type d -empty -delete

tar --directory "$root" --numeric-owner --create . | docker import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'CMD ["bash"]' \
  --change "LABEL org.opencontainers.image.title=\"Debian $suite, minimal, for Lockstep\"" \
  - "$tag" >/dev/null
echo "$tag is in place ($(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1e6 }'))"
