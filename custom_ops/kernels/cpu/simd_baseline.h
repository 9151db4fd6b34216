// Vectors of 4 float32: SSE2, NEON, or what the compiler makes of it elsewhere.
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif

namespace pkkd {
namespace {

constexpr int kLanes = 4;

#if defined(__SSE2__)

using Vector = __m128;
inline Vector Broadcast(float value) { return _mm_set1_ps(value); }
inline Vector Load(const float* from) { return _mm_loadu_ps(from); }
inline void Store(Vector v, float* to) { _mm_storeu_ps(to, v); }
inline Vector Magnitude(Vector v) {
  return _mm_and_ps(v, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)));
}
inline Vector Minimum(Vector a, Vector b) { return _mm_min_ps(a, b); }
inline Vector Maximum(Vector a, Vector b) { return _mm_max_ps(a, b); }
inline Vector MultiplyAdd(Vector a, Vector b, Vector c) { return a * b + c; }

#elif defined(__aarch64__)

using Vector = float32x4_t;
inline Vector Broadcast(float value) { return vdupq_n_f32(value); }
inline Vector Load(const float* from) { return vld1q_f32(from); }
inline void Store(Vector v, float* to) { vst1q_f32(to, v); }
inline Vector Magnitude(Vector v) { return vabsq_f32(v); }
inline Vector Minimum(Vector a, Vector b) { return vminq_f32(a, b); }
inline Vector Maximum(Vector a, Vector b) { return vmaxq_f32(a, b); }
inline Vector MultiplyAdd(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

#else

typedef float Vector __attribute__((vector_size(16)));
inline Vector Broadcast(float value) { return Vector{value, value, value, value}; }
inline Vector Load(const float* from) { return Vector{from[0], from[1], from[2], from[3]}; }
inline void Store(Vector v, float* to) {
  for (int i = 0; i < kLanes; ++i) to[i] = v[i];
}
inline Vector Minimum(Vector a, Vector b) { return a < b ? a : b; }
inline Vector Maximum(Vector a, Vector b) { return a > b ? a : b; }
inline Vector Magnitude(Vector v) { return Maximum(v, -v); }
inline Vector MultiplyAdd(Vector a, Vector b, Vector c) { return a * b + c; }

#endif

struct Constants {};

inline Vector Zero() { return Broadcast(0.0f); }
inline Vector Broadcast(const float* from) { return Broadcast(*from); }
inline Vector Add(Vector a, Vector b) { return a + b; }
inline Vector Negate(Vector a) { return Zero() - a; }
inline Vector Subtract(int, Vector a, Vector b, const Constants&) { return a - b; }

inline Vector AbsDifference(Vector x, Vector f, const Constants&) {
#ifdef __aarch64__
  return vabdq_f32(x, f);
#else
  return Magnitude(x - f);
#endif
}

constexpr int kTerms = 1;  // of the forward pass at a time
using Terms = Vector;
inline Terms LoadTerms(const float* x) { return Broadcast(x); }

inline Vector AddDistance(Vector sum, Terms x, const Vector* f, int, const Constants& k) {
  return Add(sum, AbsDifference(x, *f, k));
}

// z clamped to [-1, 1].
inline Vector Clip(Vector z, const Constants&) {
  return Minimum(Broadcast(1.0f), Maximum(Broadcast(-1.0f), z));
}

// Twice: 2^200 lifts even the smallest difference above one.
inline Vector Sign(Vector z, const Constants& k) {
  return Clip(z * Broadcast(0x1p100f) * Broadcast(0x1p100f), k);
}

}  // namespace
}  // namespace pkkd
