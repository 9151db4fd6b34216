// Flags: -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma -mf16c
#include "custom_ops/kernels/cpu/simd_avx512.h"

#include "custom_ops/kernels/cpu/tables_impl.h"

namespace pkkd {
namespace {

void Pair(const float* in, const float* centres, int64_t pixels, int64_t groups, int64_t channels,
          float* out) {
  const Constants constants;
  if (channels % 2 == 0) {
    channels *= groups;
    groups = 1;
  }
  for (int64_t row = 0; row < pixels * groups; ++row, in += channels) {
    const float* centre = centres + row % groups * channels;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes, out += kLanes) {
      Store(SumsAndDifferences(Load(in + c), Load(centre + c), constants), out);
    }
    for (; c < channels; c += 2, out += 2) {
      const float a = in[c] - centre[c], b = c + 1 < channels ? in[c + 1] - centre[c + 1] : 0.0f;
      out[0] = a + b;
      out[1] = a - b;
    }
  }
}

}  // namespace

extern const Tiles kAvx512Tiles = MakeTiles<8, 8>("avx512", Pair, &kAvx2Tiles);

}  // namespace pkkd
