#include "custom_ops/kernels/cpu/int8_simd_baseline.h"

#include "custom_ops/kernels/cpu/int8_tiles_impl.h"

namespace pkkd {
extern const Int8Tiles kBaselineInt8Tiles = {
    "baseline", kLanes, kGroup, 0, {nullptr, nullptr, Forward<4, 1>}, Depthwise, Flip};
}  // namespace pkkd
