// Vectors of 8 float32, AVX2 and FMA.
#include <immintrin.h>

#include <limits>

namespace pkkd {
namespace {

using Vector = __m256;
constexpr int kLanes = 8;

inline Vector Zero() { return _mm256_setzero_ps(); }
inline Vector Load(const float* from) { return _mm256_loadu_ps(from); }
inline Vector Broadcast(const float* from) { return _mm256_broadcast_ss(from); }
inline void Store(Vector v, float* to) { _mm256_storeu_ps(to, v); }
inline Vector Add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
inline Vector Negate(Vector a) { return _mm256_sub_ps(Zero(), a); }
inline Vector MultiplyAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

struct Constants {
  Vector one = _mm256_set1_ps(1.0f), minus_one = _mm256_set1_ps(-1.0f);
  Vector huge = _mm256_set1_ps(0x1p100f);
  Vector magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  Constants() { asm("" : "+x"(one)); }  // else 1 * a - b becomes a - b again
};

// a * 1 - b is a - b, rounded once as well. Zen has two pipes that multiply and two that add: the
// latter have enough to do with the sum, or with the clipping.
inline Vector Subtract(int, Vector a, Vector b, const Constants& k) {
  return _mm256_fmsub_ps(a, k.one, b);
}

inline Vector AbsDifference(Vector x, Vector f, const Constants& k) {
  return _mm256_and_ps(Subtract(0, x, f, k), k.magnitude);
}

constexpr int kTerms = 1;  // of the forward pass at a time
using Terms = Vector;
inline Terms LoadTerms(const float* x) { return Broadcast(x); }

inline Vector AddDistance(Vector sum, Terms x, const Vector* f, int, const Constants& k) {
  return Add(sum, AbsDifference(x, *f, k));
}

// Zen takes maxima on the pipes that add, so the sum is left to the others.
inline Vector AddMaximum(Vector sum, Vector x, Vector f, const Constants& k) {
  return _mm256_fmadd_ps(_mm256_max_ps(x, f), k.one, sum);
}

using Mask = Vector;
inline Mask IsFiniteAndAtMost(Vector a, Vector bound) {
  constexpr float kLowest = -std::numeric_limits<float>::max();
  return _mm256_and_ps(_mm256_cmp_ps(_mm256_set1_ps(kLowest), a, _CMP_LE_OQ),
                       _mm256_cmp_ps(a, bound, _CMP_LE_OQ));
}
inline Mask Both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
inline bool IsAllTrue(Mask mask) { return _mm256_movemask_ps(mask) == 0xff; }
inline Vector Select(Mask mask, Vector a, Vector b) { return _mm256_blendv_ps(b, a, mask); }

inline float SumOfLanes(Vector v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// z clamped to [-1, 1].
inline Vector Clip(Vector z, const Constants& k) {
  return _mm256_min_ps(k.one, _mm256_max_ps(k.minus_one, z));
}

// Twice: 2^200 lifts even the smallest difference above one.
inline Vector Sign(Vector z, const Constants& k) {
  return Clip(_mm256_mul_ps(_mm256_mul_ps(z, k.huge), k.huge), k);
}

}  // namespace
}  // namespace pkkd
