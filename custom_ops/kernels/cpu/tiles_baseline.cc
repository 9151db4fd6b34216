#include "custom_ops/kernels/cpu/simd_baseline.h"

#include "custom_ops/kernels/cpu/tables_impl.h"

namespace pkkd {
extern const Tiles kBaselineTiles = MakeTiles<6, 4, 4, 2>("baseline");
}  // namespace pkkd
