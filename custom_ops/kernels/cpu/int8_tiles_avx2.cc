// Flags: -mavx2 -mfma -mf16c
#include "custom_ops/kernels/cpu/int8_simd_avx2.h"

#include "custom_ops/kernels/cpu/int8_tiles_impl.h"

namespace pkkd {
extern const Int8Tiles kAvx2Int8Tiles = {
    "avx2", kLanes, kGroup, kInt8Lift, {Forward<3, 4>, Forward<6, 2>, Forward<8, 1>}, Depthwise, Flip};
}  // namespace pkkd
