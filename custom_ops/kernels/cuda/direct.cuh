// One thread sums one result by the formula, without shared memory: depthwise and other groups too
// small for tiles, and results that NaN or infinity reach.
#ifndef CUSTOM_OPS_KERNELS_CUDA_DIRECT_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_DIRECT_CUH_

#include "custom_ops/kernels/cuda/arguments.cuh"
#include "custom_ops/kernels/cuda/tiles.cuh"

namespace pkkd {

__device__ __forceinline__ float SlopeOf(float z, Slope slope) {
  if (slope == Slope::kSign) return z != z ? z : float(z > 0) - float(z < 0);
  return z < -1 ? -1.0f : (z > 1 ? 1.0f : z);
}

template <typename T>
__device__ float DirectForward(const ForwardArguments<T>& a, int n, int p, int q, int output) {
  const Sizes& s = a.sizes;
  const int first_channel = output / s.group_outputs * s.group_channels;
  float sum = 0;
  for (int i = 0; i < s.rows.kernel; ++i) {
    const int h = p * s.rows.stride - s.rows.pad + i * s.rows.dilation;
    for (int j = 0; j < s.columns.kernel; ++j) {
      const int w = q * s.columns.stride - s.columns.pad + j * s.columns.dilation;
      const bool inside = unsigned(h) < unsigned(s.rows.image) &&
                          unsigned(w) < unsigned(s.columns.image);
      const int pixel = inside ? (n * s.rows.image + h) * s.columns.image + w : 0;
      const T* const x = a.x + pixel * s.channels + first_channel;
      const T* filter = a.filters +
                        (i * s.columns.kernel + j) * s.group_channels * s.outputs + output;
      for (int c = 0; c < s.group_channels; ++c, filter += s.outputs) {
        sum += fabsf((inside ? ToFloat32(x[c]) : 0) - ToFloat32(*filter));
      }
    }
  }
  return 0 - sum;
}

template <typename T>
__device__ float DirectInputGradient(const GradientArguments<T>& a, const Phase& rows,
                                     const Phase& columns, Slope slope, int n, int u, int v,
                                     int channel) {
  const Sizes& s = a.sizes;
  const int h = rows.first + u * s.rows.stride, w = columns.first + v * s.columns.stride;
  const float x = ToFloat32(a.x[((n * s.rows.image + h) * s.columns.image + w) * s.channels +
                                channel]);
  const int first_output = channel / s.group_channels * s.group_outputs;
  float sum = 0;
  for (int i = 0; i < rows.taps; ++i) {
    const int p = u + rows.first_output - i * rows.output_step;
    if (unsigned(p) >= unsigned(s.rows.output)) continue;
    for (int j = 0; j < columns.taps; ++j) {
      const int q = v + columns.first_output - j * columns.output_step;
      if (unsigned(q) >= unsigned(s.columns.output)) continue;
      const int tap = (rows.first_tap + i * rows.tap_step) * s.columns.kernel +
                      columns.first_tap + j * columns.tap_step;
      const T* const filter = a.filters + first_output +
                              (tap * s.group_channels + channel % s.group_channels) * s.outputs;
      const T* const gradient = a.gradient + first_output +
                                ((n * s.rows.output + p) * s.columns.output + q) * s.outputs;
      for (int o = 0; o < s.group_outputs; ++o) {
        sum += SlopeOf(ToFloat32(filter[o]) - x, slope) * ToFloat32(gradient[o]);
      }
    }
  }
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    DirectForwardKernel(const ForwardArguments<T> arguments, int count) {
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= count) return;
  const Sizes& s = arguments.sizes;
  const int pixel = index / s.outputs, row = pixel / s.columns.output;
  arguments.y[index] = FromFloat32<T>(DirectForward(arguments, row / s.rows.output,
                                                    row % s.rows.output,
                                                    pixel % s.columns.output, index % s.outputs));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    DirectInputGradientKernel(const GradientArguments<T> arguments, Slope slope, int count) {
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= count) return;
  const Sizes& s = arguments.sizes;
  const int pixel = index / s.channels, row = pixel / s.columns.image;
  const int h = row % s.rows.image, w = pixel % s.columns.image;
  const Phase rows = PhaseOf(s.rows, h % s.rows.stride);
  const Phase columns = PhaseOf(s.columns, w % s.columns.stride);
  arguments.dx[index] = FromFloat32<T>(DirectInputGradient(
      arguments, rows, columns, slope, row / s.rows.image, h / s.rows.stride,
      w / s.columns.stride, index % s.channels));
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_DIRECT_CUH_
