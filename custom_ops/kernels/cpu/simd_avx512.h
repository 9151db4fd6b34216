// Vectors of 16 float32, AVX-512 F and DQ.
#include <immintrin.h>

namespace pkkd {
namespace {

using Vector = __m512;
constexpr int kLanes = 16;

inline Vector Zero() { return _mm512_setzero_ps(); }
inline Vector Load(const float* from) { return _mm512_loadu_ps(from); }
inline Vector Broadcast(const float* from) { return _mm512_set1_ps(*from); }
inline void Store(Vector v, float* to) { _mm512_storeu_ps(to, v); }
inline Vector Add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
inline Vector Negate(Vector a) { return _mm512_sub_ps(Zero(), a); }
inline Vector MultiplyAdd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

struct Constants {
  Vector one = _mm512_set1_ps(1.0f), huge = _mm512_set1_ps(0x1p100f);
  Vector magnitude = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
  Constants() { asm("" : "+v"(one)); }  // else 1 * a - b becomes a - b again
};

// The subtraction as a multiply-subtract by one (the same rounding) leaves the adders of the
// processor to the sum: Zen has two pipes for either.
inline Vector Subtract(Vector a, Vector b, const Constants& k) {
  return _mm512_fmsub_ps(a, k.one, b);
}

inline Vector AddAbsDifference(Vector sum, Vector x, Vector f, const Constants& k) {
  return Add(sum, _mm512_and_ps(Subtract(x, f, k), k.magnitude));
}

// z clamped to [-1, 1]: the smaller magnitude of z and one with the sign of z. Not for NaN.
inline Vector Clip(Vector z, const Constants& k) { return _mm512_range_ps(z, k.one, 0x2); }

// Twice: 2^200 lifts even the smallest difference above one.
inline Vector Sign(Vector z, const Constants& k) {
  return Clip(_mm512_mul_ps(_mm512_mul_ps(z, k.huge), k.huge), k);
}

}  // namespace
}  // namespace pkkd
