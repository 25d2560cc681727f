#!/usr/bin/env bash
# Brings moto's S3 server to target/s3-server, for the tests of the store; done once. Without it they are skipped, with a word.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly venv=target/s3-server
readonly requirements=tests/system/requirements.txt
cmp --silent "$requirements" "$venv/requirements.txt" && exit
rm -rf "$venv"
mkdir -p "${venv%/*}"
if python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"; then
  cp "$requirements" "$venv/"
else
  rm -rf "$venv"
  echo 'skipped: the S3 server could not be installed (see above)'
fi
