// PSADBW on 64 bytes: the distances of 8 bytes of 8 outputs, each added up in its 64-bit lane.
#include <immintrin.h>

#include <cstring>
#include <algorithm>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

constexpr int kLanes = 8, kGroup = 8;
constexpr int64_t kMostBytes = 0;  // in a sum before it is flushed: no limit

using Sums = __m512i;
using Terms = __m512i;
using Filters = __m512i;

inline Sums Zero() { return _mm512_setzero_si512(); }
inline void Flush(Sums*) {}
inline Filters LoadFilters(const uint8_t* from) { return _mm512_loadu_si512(from); }
inline Sums LoadSums(const uint32_t* from) {
  return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline Terms Broadcast(const uint8_t* from) {
  int64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return _mm512_set1_epi64(bytes);
}

inline void AddDistance(Terms x, Filters f, Sums* sums) {
  *sums = _mm512_add_epi64(*sums, _mm512_sad_epu8(x, f));
}

// Of one pixel. A copy of what the job says, which the compiler need not read again after each store.
template <int Q>
class Epilogue {
 public:
  explicit Epilogue(const Int8Job& job)
      : residual_(job.residual),
        y_(job.y),
        outputs_(job.outputs),
        whole_(job.width >= Q * kLanes),
        used_((1u << std::min<int64_t>(job.width, Q * kLanes)) - 1),
        residual_multiplier_(_mm512_set1_epi64(job.residual_multiplier)),
        shift_(_mm_cvtsi32_si128(job.shift)),
        low_(_mm_set1_epi8(job.low)),
        high_(_mm_set1_epi8(job.high)) {
    UNROLL for (int q = 0; q < Q; ++q) {
      multiplier_[q] = _mm512_loadu_si512(job.multiplier + q * kLanes);
      bias_[q] = _mm512_loadu_si512(job.bias + q * kLanes);
    }
  }

  inline void Finish(const Sums* sums, int64_t pixel) const {
    const int64_t place = pixel * outputs_;
    __m512i t[Q];
    UNROLL for (int q = 0; q < Q; ++q) {
      t[q] = _mm512_add_epi64(_mm512_mul_epi32(sums[q], multiplier_[q]), bias_[q]);
    }
    if (residual_ != nullptr) {
      __m128i r = _mm_setzero_si128();
      if (whole_) {
        std::memcpy(&r, residual_ + place, Q * kLanes);
      } else {
        r = _mm_maskz_loadu_epi8(used_, residual_ + place);
      }
      UNROLL for (int q = 0; q < Q; ++q, r = _mm_unpackhi_epi64(r, r)) {
        const __m512i term = _mm512_mul_epi32(_mm512_cvtepi8_epi64(r), residual_multiplier_);
        t[q] = _mm512_add_epi64(t[q], term);
      }
    }
    // Conversion to bytes saturates.
    __m128i y = _mm512_cvtsepi64_epi8(_mm512_sra_epi64(t[0], shift_));
    if constexpr (Q == 2) {
      y = _mm_unpacklo_epi64(y, _mm512_cvtsepi64_epi8(_mm512_sra_epi64(t[1], shift_)));
    }
    y = _mm_min_epi8(_mm_max_epi8(y, low_), high_);
    if (whole_) {
      std::memcpy(y_ + place, &y, Q * kLanes);
    } else {
      _mm_mask_storeu_epi8(y_ + place, used_, y);
    }
  }

 private:
  const int8_t* const residual_;
  int8_t* const y_;
  const int64_t outputs_;
  const bool whole_;
  const __mmask16 used_;
  const __m512i residual_multiplier_;
  const __m128i shift_, low_, high_;
  __m512i multiplier_[Q], bias_[Q];
};

}  // namespace
}  // namespace pkkd
