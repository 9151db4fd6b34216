#include "custom_ops/kernels/cuda/launch_impl.cuh"

namespace pkkd {
PKKD_INSTANTIATE_ADDER(__half);
}  // namespace pkkd
