// PSADBW on 64 bytes: the distances of 8 bytes of 8 outputs, each added up in its 64-bit lane.
#include <immintrin.h>

#include <cstring>
#include <algorithm>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

constexpr int kLanes = 8, kGroup = 8;
constexpr int64_t kMostBytes = int64_t{1} << 40;  // in a sum before it is flushed: no limit

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

// t >> shift of 8 outputs, saturated to bytes.
inline __m128i Shifted(Sums sums, const Int8Job& job, int q, __m128i residual) {
  __m512i t = _mm512_mul_epi32(sums, _mm512_loadu_si512(job.multiplier + q * kLanes));
  t = _mm512_add_epi64(t, _mm512_loadu_si512(job.bias + q * kLanes));
  if (job.residual != nullptr) {
    const __m512i r = _mm512_set1_epi64(job.residual_multiplier);
    t = _mm512_add_epi64(t, _mm512_mul_epi32(_mm512_cvtepi8_epi64(residual), r));
  }
  return _mm512_cvtsepi64_epi8(_mm512_sra_epi64(t, _mm_cvtsi32_si128(job.shift)));
}

// The epilogue of one pixel.
template <int Q>
inline void Finish(const Sums* sums, const Int8Job& job, int64_t pixel) {
  const int64_t place = pixel * job.outputs;
  const __mmask16 used = (1u << std::min<int64_t>(job.width, Q * kLanes)) - 1;
  __m128i residual = _mm_setzero_si128();
  if (job.residual != nullptr) residual = _mm_maskz_loadu_epi8(used, job.residual + place);
  __m128i y = Shifted(sums[0], job, 0, residual);
  if constexpr (Q == 2) {
    y = _mm_unpacklo_epi64(y, Shifted(sums[1], job, 1, _mm_unpackhi_epi64(residual, residual)));
  }
  y = _mm_max_epi8(y, _mm_set1_epi8(job.low));
  y = _mm_min_epi8(y, _mm_set1_epi8(job.high));
  if (job.width >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(job.y + place), y);
  } else {
    _mm_mask_storeu_epi8(job.y + place, used, y);
  }
}

}  // namespace
}  // namespace pkkd
