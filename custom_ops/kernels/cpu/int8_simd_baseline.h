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

typedef uint8_t Filters __attribute__((vector_size(16)));
typedef uint16_t Half __attribute__((vector_size(16)));
typedef uint32_t HalfTotal __attribute__((vector_size(32)));
using Terms = Filters;

struct Sums {
  Half sum[2];  // of 8 outputs each
  HalfTotal total[2];
};

inline Sums Zero() { return {{Half{}, Half{}}, {HalfTotal{}, HalfTotal{}}}; }

inline Filters LoadFilters(const uint8_t* from) {
  Filters filters;
  __builtin_memcpy(&filters, from, sizeof filters);
  return filters;
}

#ifdef __aarch64__

inline Terms Broadcast(const uint8_t* from) { return Terms(vld1q_dup_u8(from)); }

inline void AddDistance(Terms x, Filters f, Sums* sums) {
  const uint8x16_t a = uint8x16_t(x), b = uint8x16_t(f);
  sums->sum[0] = Half(vabal_u8(uint16x8_t(sums->sum[0]), vget_low_u8(a), vget_low_u8(b)));
  sums->sum[1] = Half(vabal_high_u8(uint16x8_t(sums->sum[1]), a, b));
}

// Where the sum of an output is.
constexpr int HalfOf(int output) { return output / 8; }
constexpr int PlaceOf(int output) { return output % 8; }

#else

inline Terms Broadcast(const uint8_t* from) { return Terms{} + *from; }

inline void AddDistance(Terms x, Filters f, Sums* sums) {
  const Half pairs = Half((x > f ? x : f) - (x > f ? f : x));
  sums->sum[0] += pairs & 255;
  sums->sum[1] += pairs >> 8;
}

// Where the sum of an output is: the even ones are the low bytes of the pairs.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
constexpr int HalfOf(int output) { return output % 2; }
constexpr int PlaceOf(int output) { return output / 2; }

#endif

inline void Flush(Sums* sums) {
  UNROLL for (int half = 0; half < 2; ++half) {
    sums->total[half] += __builtin_convertvector(sums->sum[half], HalfTotal);
    sums->sum[half] = Half{};
  }
}

inline Sums LoadSums(const uint32_t* from) {
  Sums sums = Zero();
  uint32_t total[2][8];
  for (int i = 0; i < kLanes; ++i) total[HalfOf(i)][PlaceOf(i)] = from[i];
  __builtin_memcpy(sums.total, total, sizeof total);
  return sums;
}

// Of one pixel.
template <int Q>
class Epilogue {
 public:
  static_assert(Q == 1);
  explicit Epilogue(const Int8Job& job) : job_(job) {}

  inline void Finish(const Sums* sums, int64_t pixel) const {
    const int64_t place = pixel * job_.outputs;
    uint32_t total[2][8];
    __builtin_memcpy(total, sums->total, sizeof total);
    int64_t t[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      t[i] = total[HalfOf(i)][PlaceOf(i)] * job_.multiplier[i] + job_.bias[i];
    }
    const int64_t width = std::min<int64_t>(job_.width, kLanes);
    if (job_.residual != nullptr) {
      const int8_t* residual = job_.residual + place;
      for (int64_t i = 0; i < width; ++i) t[i] += job_.residual_multiplier * residual[i];
    }
    for (int64_t i = 0; i < width; ++i) {
      job_.y[place + i] = std::clamp<int64_t>(t[i] >> job_.shift, job_.low, job_.high);
    }
  }

 private:
  const Int8Job& job_;
};

}  // namespace
}  // namespace pkkd
