#!/usr/bin/env bash
# Brings moto's S3 server to target/s3-server, for the tests of the store; done once. Without it they are skipped, with a word.
set -euo pipefail
cd "$(dirname "$0")/../.."

. deploy/needs.sh

python_environment target/s3-server tests/system/requirements.txt ||
  echo 'skipped: the S3 server could not be installed (see above)'
