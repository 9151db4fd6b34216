#include "custom_ops/kernels/cuda/launch_impl.cuh"

namespace pkkd {
PKKD_INSTANTIATE_ADDER(__nv_bfloat16);
}  // namespace pkkd
