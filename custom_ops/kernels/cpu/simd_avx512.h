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
  Constants() { asm("" : "+v"(one)); }  // else 1 * a - b becomes a - b again
};

// a * 1 - b is a - b, rounded once as well. Zen has two pipes that multiply and two that add.
inline Vector SubtractByMultiplying(Vector a, Vector b, const Constants& k) {
  return _mm512_fmsub_ps(a, k.one, b);
}

// The i-th of many subtractions, of whose results each is clipped (an adder's work) and multiplied:
// half of them on either kind of pipe keep all four busy.
inline Vector Subtract(int i, Vector a, Vector b, const Constants& k) {
  return i % 2 == 0 ? _mm512_sub_ps(a, b) : SubtractByMultiplying(a, b, k);
}

inline Vector AbsDifference(Vector x, Vector f, const Constants& k) {
  return _mm512_abs_ps(SubtractByMultiplying(x, f, k));
}

// Terms of the forward pass taken at a time: two (pairs.h), |a| + |b| = max(|a + b|, |a - b|). The
// sums and differences of x and of f are known beforehand, so two subtractions, one larger
// magnitude and one sum are left.
constexpr int kTerms = 2;
struct Terms {
  Vector sum, difference;
};
inline Terms LoadTerms(const float* x) { return {Broadcast(x), Broadcast(x + 1)}; }

// f[0] holds the sums of the filters, f[stride] their differences.
inline Vector AddDistance(Vector sum, const Terms& x, const Vector* f, int stride,
                          const Constants& k) {
  const Vector a = SubtractByMultiplying(x.sum, f[0], k);
  const Vector b = SubtractByMultiplying(x.difference, f[stride], k);
  return Add(sum, _mm512_range_ps(a, b, 0xb));
}

// (x0 - c0) + (x1 - c1), (x0 - c0) - (x1 - c1), ...
inline Vector SumsAndDifferences(Vector x, Vector centre, const Constants& k) {
  const Vector v = _mm512_sub_ps(x, centre);
  return _mm512_fmsubadd_ps(_mm512_permute_ps(v, 0xb1), k.one, v);
}

// z clamped to [-1, 1]: the smaller magnitude of z and one with the sign of z. Not for NaN.
inline Vector Clip(Vector z, const Constants& k) { return _mm512_range_ps(z, k.one, 0x2); }

// Twice: 2^200 lifts even the smallest difference above one.
inline Vector Sign(Vector z, const Constants& k) {
  return Clip(_mm512_mul_ps(_mm512_mul_ps(z, k.huge), k.huge), k);
}

}  // namespace
}  // namespace pkkd
