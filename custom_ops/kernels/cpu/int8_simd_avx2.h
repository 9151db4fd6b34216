// PSADBW on 32 bytes: the distances of 8 bytes of 4 outputs, each added up in its 64-bit lane.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

constexpr int kLanes = 4, kGroup = 8;
constexpr int64_t kMostBytes = 0;  // in a sum before it is flushed: no limit

using Sums = __m256i;
using Terms = __m256i;
using Filters = __m256i;

inline __m256i Load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline Sums Zero() { return _mm256_setzero_si256(); }
inline void Flush(Sums*) {}
inline Filters LoadFilters(const uint8_t* from) { return Load(from); }
inline Sums LoadSums(const uint32_t* from) {
  return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline Terms Broadcast(const uint8_t* from) {
  int64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return _mm256_set1_epi64x(bytes);
}

inline void AddDistance(Terms x, Filters f, Sums* sums) {
  *sums = _mm256_add_epi64(*sums, _mm256_sad_epu8(x, f));
}

inline __m256i Clamp(__m256i v, __m256i low, __m256i high) {
  v = _mm256_blendv_epi8(v, low, _mm256_cmpgt_epi64(low, v));
  return _mm256_blendv_epi8(v, high, _mm256_cmpgt_epi64(v, high));
}

// The low halves of the lanes of a and b: a0 a1 b0 b1 | a2 a3 b2 b3.
inline __m256i Narrowed(__m256i a, __m256i b) {
  return _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
}

// Of one pixel. A copy of what the job says, which the compiler need not read again after each store.
template <int Q>
class Epilogue {
 public:
  explicit Epilogue(const Int8Job& job)
      : residual_(job.residual),
        y_(job.y),
        multiplier_(job.multiplier),
        bias_(job.bias),
        outputs_(job.outputs),
        width_(std::min<int64_t>(job.width, Q * kLanes)),
        residual_multiplier_(_mm256_set1_epi64x(job.residual_multiplier)),
        lift_(_mm256_set1_epi32(kInt8Lift >> job.shift)),
        shift_(_mm_cvtsi32_si128(job.shift)),
        low_(job.low),
        high_(job.high),
        lifted_low_((kInt8Lift >> job.shift) + job.low),
        lifted_high_((kInt8Lift >> job.shift) + job.high),
        fits_int32_(job.fits_int32) {}

  inline void Finish(const Sums* sums, int64_t pixel) const {
    const int64_t place = pixel * outputs_;
    const bool whole = width_ == Q * kLanes;
    const int8_t* residual = residual_ == nullptr ? nullptr : residual_ + place;
    int8_t copy[16];
    if (residual != nullptr && !whole) {
      std::memcpy(copy, residual, width_);
      residual = copy;
    }
    __m256i v[4];
    UNROLL for (int q = 0; q < Q; ++q) v[q] = Shifted(sums[q], q, residual);
    UNROLL for (int q = Q; q < 4; ++q) v[q] = v[q - Q];
    __m256i bytes = _mm256_packs_epi32(_mm256_sub_epi32(Narrowed(v[0], v[1]), lift_),
                                       _mm256_sub_epi32(Narrowed(v[2], v[3]), lift_));
    bytes = _mm256_packs_epi16(bytes, bytes);
    __m128i y =
        _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    y = _mm_min_epi8(_mm_max_epi8(y, _mm_set1_epi8(low_)), _mm_set1_epi8(high_));
    if (whole) {
      std::memcpy(y_ + place, &y, Q * kLanes);
    } else {
      std::memcpy(y_ + place, &y, width_);
    }
  }

 private:
  // There is no arithmetic shift of 64 bits, so the bias lifts t above zero. Returns t >> shift of 4
  // outputs, lifted, and clamped where it might not fit in 32 bits.
  inline __m256i Shifted(Sums sums, int q, const int8_t* residual) const {
    __m256i t = _mm256_mul_epi32(sums, Load(multiplier_ + q * kLanes));
    t = _mm256_add_epi64(t, Load(bias_ + q * kLanes));
    if (residual != nullptr) {
      int32_t bytes;
      std::memcpy(&bytes, residual + q * kLanes, sizeof bytes);
      const __m256i r = _mm256_cvtepi8_epi64(_mm_cvtsi32_si128(bytes));
      t = _mm256_add_epi64(t, _mm256_mul_epi32(r, residual_multiplier_));
    }
    t = _mm256_srl_epi64(t, shift_);
    if (fits_int32_) return t;
    return Clamp(t, _mm256_set1_epi64x(lifted_low_), _mm256_set1_epi64x(lifted_high_));
  }

  const int8_t* const residual_;
  int8_t* const y_;
  const int64_t *const multiplier_, *const bias_;
  const int64_t outputs_, width_;
  const __m256i residual_multiplier_, lift_;  // lift_: its low 32 bits, shifted
  const __m128i shift_;
  const int32_t low_, high_;
  const int64_t lifted_low_, lifted_high_;
  const bool fits_int32_;
};

}  // namespace
}  // namespace pkkd
