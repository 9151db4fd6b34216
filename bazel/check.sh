#!/usr/bin/env bash
# Builds the native code with Debian's Bazel and runs its tests, without downloads. Minutes.
#   bazel/check.sh             PYTHON_BIN_PATH (default .venv/bin/python3) has TensorFlow
#   bazel/check.sh --install   first installs Bazel by apt-get (root)
#   JOBS=1 bazel/check.sh      with one core
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} == --install ]]; then
  apt-get install --yes --no-install-recommends \
    bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib
fi
export PYTHON_BIN_PATH=${PYTHON_BIN_PATH:-$PWD/.venv/bin/python3}
[[ -x $PYTHON_BIN_PATH ]] || {
  echo "A Python with TensorFlow is needed. Received: PYTHON_BIN_PATH=$PYTHON_BIN_PATH" >&2
  exit 1
}
command -v bazel >/dev/null || {
  echo "Bazel is needed; --install installs Debian's. Received: bazel, which is not found" >&2
  exit 1
}
PYTHON_BIN_PATH=$(realpath --no-symlinks "$PYTHON_BIN_PATH")
export PATH=$(dirname "$PYTHON_BIN_PATH"):$PATH # Bazel runs a py_test by the python3 of the PATH
options=(--config=debian ${JOBS:+--jobs="$JOBS"})
trap 'bazel shutdown' EXIT
bazel build "${options[@]}" //custom_ops/tensorflow:_pkkd_ops.so //custom_ops/tflite:all
bazel test "${options[@]}" //...
