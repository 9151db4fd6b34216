#!/usr/bin/env bash
# Compiles kernels and delegate for ARM64 and runs them emulated: the kernels' own test, then LiteRT
# for ARM64 with a network, whose outputs must be those of this processor, bit for bit. Minutes.
#   custom_ops/arm64/check.sh [FILE.tflite]   int8; default: the shipped ResNet-20
#   custom_ops/arm64/check.sh --install       first installs what it needs by apt-get (root)
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ ${1:-} == --install ]]; then
  apt-get install --yes --no-install-recommends g++-aarch64-linux-gnu mmdebstrap qemu-user-static
  shift
fi
for tool in aarch64-linux-gnu-g++ mmdebstrap qemu-aarch64-static; do
  command -v "$tool" >/dev/null || {
    echo "A cross compiler, mmdebstrap and QEMU are needed; --install installs Debian's." \
      "Received: $tool, which is not found" >&2
    exit 1
  }
done
file=$(realpath "${1:-pkkd_tf/pretrained/resnet20_cifar10_int8.tflite}")
python=${PYTHON:-$PWD/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m custom_ops.build_delegate --quiet --output="$work/here.so"
export CXX=aarch64-linux-gnu-g++

"$python" -m custom_ops.build --quiet --grid_test --output="$work/grid_test"
qemu-aarch64-static -L /usr/aarch64-linux-gnu "$work/grid_test"

"$python" -m custom_ops.build_delegate --quiet --output="$work/libadder_delegate.so"
mmdebstrap --quiet --arch=arm64 --variant=extract --include=python3.11,libstdc++6 bookworm "$work/root"
version=$("$python" -c 'from importlib.metadata import version; print(version("ai-edge-litert"))')
"$python" -m pip install --quiet --target="$work/site" --only-binary=:all: --python-version=3.11 \
  --platform=manylinux2014_aarch64 --platform=manylinux_2_27_aarch64 \
  --platform=manylinux_2_28_aarch64 "ai-edge-litert==$version"
# QEMU gives a program this machine's /proc/cpuinfo unless the root has one; LiteRT reads it.
mkdir -p "$work/root/proc"
cp custom_ops/arm64/cpuinfo.txt "$work/root/proc/cpuinfo"
outputs=$PWD/custom_ops/arm64/outputs.py
for threads in 1 2; do
  qemu-aarch64-static -cpu cortex-a72 -L "$work/root" -E PYTHONPATH="$work/site" \
    "$work/root/usr/bin/python3.11" "$outputs" "$work/libadder_delegate.so" "$file" \
    "$work/arm64" "$threads"
  "$python" "$outputs" "$work/here.so" "$file" "$work/here" "$threads"
  cmp "$work/arm64" "$work/here"
done
echo "the same outputs as here: $file"
