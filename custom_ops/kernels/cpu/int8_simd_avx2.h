// PSADBW on 32 bytes: the distances of 8 bytes of 4 outputs, each added up in its 64-bit lane.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

constexpr int kLanes = 4, kGroup = 8;
constexpr int64_t kMostBytes = int64_t{1} << 40;  // in a sum before it is flushed: no limit

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

// There is no arithmetic shift of 64 bits: t is lifted above zero by this much, its magnitude being
// below, and lowered again afterwards.
constexpr int64_t kLift = int64_t{1} << 62;

inline __m256i Clamp(__m256i v, int64_t low, int64_t high) {
  const __m256i least = _mm256_set1_epi64x(low), most = _mm256_set1_epi64x(high);
  v = _mm256_blendv_epi8(v, least, _mm256_cmpgt_epi64(least, v));
  return _mm256_blendv_epi8(v, most, _mm256_cmpgt_epi64(v, most));
}

// t >> shift of 4 outputs, clamped where it might not fit in 32 bits.
inline __m256i Shifted(Sums sums, const Int8Job& job, int q, const int8_t* residual) {
  __m256i t = _mm256_mul_epi32(sums, Load(job.multiplier + q * kLanes));
  t = _mm256_add_epi64(t, Load(job.bias + q * kLanes));
  if (residual != nullptr) {
    int32_t bytes;
    std::memcpy(&bytes, residual + q * kLanes, sizeof bytes);
    const __m256i r = _mm256_cvtepi8_epi64(_mm_cvtsi32_si128(bytes));
    t = _mm256_add_epi64(t, _mm256_mul_epi32(r, _mm256_set1_epi64x(job.residual_multiplier)));
  }
  t = _mm256_add_epi64(t, _mm256_set1_epi64x(kLift));
  t = _mm256_srl_epi64(t, _mm_cvtsi32_si128(job.shift));
  t = _mm256_sub_epi64(t, _mm256_set1_epi64x(kLift >> job.shift));
  return job.fits_int32 ? t : Clamp(t, job.low, job.high);
}

// The low halves of the lanes of a and b: a0 a1 b0 b1 | a2 a3 b2 b3.
inline __m256i Narrowed(__m256i a, __m256i b) {
  return _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
}

// The epilogue of one pixel.
template <int Q>
inline void Finish(const Sums* sums, const Int8Job& job, int64_t pixel) {
  const int64_t place = pixel * job.outputs;
  const bool whole = job.width >= Q * kLanes;
  const int8_t* residual = job.residual == nullptr ? nullptr : job.residual + place;
  int8_t copy[16];
  if (residual != nullptr && !whole) {
    std::memcpy(copy, residual, job.width);
    residual = copy;
  }
  __m256i v[4];
  UNROLL for (int q = 0; q < Q; ++q) v[q] = Shifted(sums[q], job, q, residual);
  UNROLL for (int q = Q; q < 4; ++q) v[q] = v[q - Q];
  const __m256i words = _mm256_packs_epi32(Narrowed(v[0], v[1]), Narrowed(v[2], v[3]));
  const __m256i bytes = _mm256_packs_epi16(words, words);
  __m128i y = _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  y = _mm_max_epi8(y, _mm_set1_epi8(job.low));
  y = _mm_min_epi8(y, _mm_set1_epi8(job.high));
  if (whole) {
    std::memcpy(job.y + place, &y, Q * kLanes);
  } else {
    std::memcpy(job.y + place, &y, job.width);
  }
}

}  // namespace
}  // namespace pkkd
