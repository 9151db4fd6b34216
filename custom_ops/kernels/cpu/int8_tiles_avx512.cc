// Flags: -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma -mf16c
#include "custom_ops/kernels/cpu/int8_simd_avx512.h"

#include "custom_ops/kernels/cpu/int8_tiles_impl.h"

namespace pkkd {
extern const Int8Tiles kAvx512Int8Tiles = {
    "avx512", kLanes, kGroup, 0, {nullptr, Forward<8, 2>, Forward<8, 1>}, Depthwise, Flip};
}  // namespace pkkd
