#!/usr/bin/env bash
# Checks format and style of the Bazel files with buildifier, a package of npm.
#   bazel/lint.sh          says what differs
#   bazel/lint.sh --fix    rewrites the files
set -euo pipefail
cd "$(dirname "$0")/.."
command -v npx >/dev/null || {
  echo "npx, of Node's npm, is needed. Received: npx, which is not found" >&2
  exit 1
}
action=(-mode=diff -lint=warn)
[[ ${1:-} == --fix ]] && action=(-mode=fix -lint=fix)
git ls-files -z '*BUILD' '*WORKSPACE' '*.bazel' '*.bzl' |
  xargs -0 npx --yes @bazel/buildifier@8.2.1 "${action[@]}"
