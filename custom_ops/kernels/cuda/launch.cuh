// The launch of one pass for one storage type: sizes checked, batch cut, tile chosen.
#ifndef CUSTOM_OPS_KERNELS_CUDA_LAUNCH_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_LAUNCH_CUH_

#include <algorithm>

#include "custom_ops/kernels/cuda/forward.cuh"
#include "custom_ops/kernels/cuda/input_gradient.cuh"

namespace pkkd {

// As pkkd_cuda_adder_forward and pkkd_cuda_adder_input_gradient; instantiated in adder_*.cu.
template <typename T>
int LaunchForward(const AdderShape& shape, const void* x, const void* filters, void* y,
                  void* stream, int tile);
template <typename T>
int LaunchInputGradient(const AdderShape& shape, Slope slope, const void* x, const void* filters,
                        const void* gradient, void* dx, void* stream, int tile);

constexpr int kDirect = kTiles;  // index of the kernels without tiles

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_LAUNCH_CUH_
