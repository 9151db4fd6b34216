// What one launch gets: AdderShape in 32 bits, tensors, and the phases of a stride.
#ifndef CUSTOM_OPS_KERNELS_CUDA_ARGUMENTS_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_ARGUMENTS_CUH_

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cuda/platform.cuh"

namespace pkkd {

struct Axis {
  int image, kernel, stride, dilation, pad, output;
};

// Every tensor of a launch has at most 2^30 elements (launch_impl.cuh cuts the batch).
struct Sizes {
  int batch, channels, outputs, groups;
  int group_channels, group_outputs;
  Axis rows, columns;
};

// The quads say that rows of channels can be moved by quads.
template <typename T>
struct ForwardArguments {
  Sizes sizes;
  const T* x;
  const T* filters;
  T* y;
  bool x_quads, output_quads;
};

template <typename T>
struct GradientArguments {
  Sizes sizes;
  const T* x;
  const T* filters;
  const T* gradient;
  T* dx;
  bool x_quads, output_quads;
};

// Along one axis, the image positions `first + stride * u` that the taps `first_tap + tap_step * v`
// reach, and no others, from output `output(u) - v * output_step`. The taps of the other phases
// never meet these positions.
struct Phase {
  int first, positions;
  int first_tap, tap_step, taps;
  int output_step, first_output;  // output of u = 0, v = 0, perhaps outside
};

// Phases of an axis with at least one position.
__host__ __device__ __forceinline__ int PhaseCount(const Axis& axis) {
  return axis.stride < axis.image ? axis.stride : axis.image;
}

__host__ __device__ __forceinline__ int CeilDiv(int a, int b) { return (a + b - 1) / b; }

// Phase of the positions first, first + stride, ...; `first` is also the phase's index.
__device__ inline Phase PhaseOf(const Axis& axis, int first) {
  Phase phase = {first, CeilDiv(axis.image - first, axis.stride), 0, 1, 0, 0, 0};
  const int target = (first + axis.pad) % axis.stride;
  int a = axis.stride, b = axis.dilation;  // greatest common divisor
  while (b != 0) {
    const int rest = a % b;
    a = b;
    b = rest;
  }
  phase.tap_step = axis.stride / a;
  phase.output_step = axis.dilation / a;
  int position = 0;  // of the tap, modulo the stride
  while (phase.first_tap < axis.kernel && position != target) {
    position = (position + axis.dilation) % axis.stride;
    ++phase.first_tap;
  }
  if (phase.first_tap < axis.kernel) {
    phase.taps = CeilDiv(axis.kernel - phase.first_tap, phase.tap_step);
    phase.first_output = (first + axis.pad - phase.first_tap * axis.dilation) / axis.stride;
  }
  return phase;
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_ARGUMENTS_CUH_
