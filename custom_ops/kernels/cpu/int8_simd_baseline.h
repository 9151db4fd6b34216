// 16 outputs a vector, byte by byte into sums of 16 bits: NEON, or what the compiler makes of it.
#ifdef __aarch64__
#include <arm_neon.h>
#endif

#include <algorithm>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

constexpr int kLanes = 16, kGroup = 1;
constexpr int64_t kMostBytes = 257;  // in a sum of 16 bits

#ifdef __aarch64__

using Half = uint16x8_t;
using Terms = uint8x16_t;
using Filters = uint8x16_t;

inline Terms Broadcast(const uint8_t* from) { return vld1q_dup_u8(from); }
inline Filters LoadFilters(const uint8_t* from) { return vld1q_u8(from); }
inline void AddDistance(Terms x, Filters f, Half* low, Half* high) {
  *low = vabal_u8(*low, vget_low_u8(x), vget_low_u8(f));
  *high = vabal_high_u8(*high, x, f);
}

#else

typedef uint16_t Half __attribute__((vector_size(16)));
typedef uint8_t Filters __attribute__((vector_size(16)));
typedef uint8_t Eight __attribute__((vector_size(8)));
using Terms = Filters;

inline Terms Broadcast(const uint8_t* from) { return Filters{} + *from; }
inline Filters LoadFilters(const uint8_t* from) {
  Filters filters;
  __builtin_memcpy(&filters, from, sizeof filters);
  return filters;
}
inline void AddDistance(Terms x, Filters f, Half* low, Half* high) {
  const Filters distance = (x > f ? x : f) - (x > f ? f : x);
  Eight halves[2];
  __builtin_memcpy(halves, &distance, sizeof distance);
  *low += __builtin_convertvector(halves[0], Half);
  *high += __builtin_convertvector(halves[1], Half);
}

#endif

struct Sums {
  Half low, high;
  uint32_t total[kLanes];
};

inline Sums Zero() { return {Half{}, Half{}, {}}; }
inline Sums LoadSums(const uint32_t* from) {
  Sums sums = Zero();
  std::copy(from, from + kLanes, sums.total);
  return sums;
}
inline void AddDistance(Terms x, Filters f, Sums* sums) {
  AddDistance(x, f, &sums->low, &sums->high);
}
inline void Flush(Sums* sums) {
  UNROLL for (int i = 0; i < 8; ++i) sums->total[i] += sums->low[i];
  UNROLL for (int i = 0; i < 8; ++i) sums->total[8 + i] += sums->high[i];
  sums->low = sums->high = Half{};
}

// The epilogue of one pixel.
template <int Q>
inline void Finish(const Sums* sums, const Int8Job& job, int64_t pixel) {
  static_assert(Q == 1);
  const int64_t place = pixel * job.outputs;
  int64_t t[kLanes];
  for (int i = 0; i < kLanes; ++i) t[i] = sums->total[i] * job.multiplier[i] + job.bias[i];
  const int64_t width = std::min<int64_t>(job.width, kLanes);
  if (job.residual != nullptr) {
    const int8_t* residual = job.residual + place;
    for (int64_t i = 0; i < width; ++i) t[i] += job.residual_multiplier * residual[i];
  }
  for (int64_t i = 0; i < width; ++i) {
    job.y[place + i] = std::clamp<int64_t>(t[i] >> job.shift, job.low, job.high);
  }
}

}  // namespace
}  // namespace pkkd
