// Flags: -mavx2 -mfma -mf16c
#include "custom_ops/kernels/cpu/simd_avx2.h"

#include "custom_ops/kernels/cpu/tables_impl.h"
// After it:
#include "custom_ops/kernels/cpu/maxima_impl.h"

namespace pkkd {
extern const Tiles kAvx2Tiles = MakeTiles<8, 4, 6, 4>("avx2", MakeMaximaTiles<8, 5>());
}  // namespace pkkd
