// Flags: -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma -mf16c
#include "custom_ops/kernels/cpu/simd_avx512.h"

#include "custom_ops/kernels/cpu/tiles_impl.h"

namespace pkkd {
extern const Tiles kAvx512Tiles = MakeTiles<8, 6, 8, 5>("avx512");
}  // namespace pkkd
