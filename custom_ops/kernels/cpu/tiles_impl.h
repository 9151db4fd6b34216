// The inner loops over the vectors of the simd_*.h included before: P pixels x Q vectors of filters
// in registers. Compiled once for each instruction set.
#include "custom_ops/kernels/cpu/number_types.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {
namespace {

template <int P, int Q>
struct Sums {
  Vector partial[P][Q], total[P][Q];

  Sums() {
    for (int p = 0; p < P; ++p) {
      for (int q = 0; q < Q; ++q) partial[p][q] = total[p][q] = Zero();
    }
  }

  void Flush() {
    for (int p = 0; p < P; ++p) {
      for (int q = 0; q < Q; ++q) {
        total[p][q] = Add(total[p][q], partial[p][q]);
        partial[p][q] = Zero();
      }
    }
  }
};

template <int P, int Q>
inline void ForwardRun(const float* const (&a)[P], const float* b, int64_t length,
                       const Constants& constants, Vector (&sums)[P][Q]) {
  for (int64_t k = 0; k < length; ++k, b += Q * kLanes) {
    Vector f[Q];
    for (int q = 0; q < Q; ++q) f[q] = Load(b + q * kLanes);
    for (int p = 0; p < P; ++p) {
      const Vector x = Broadcast(a[p] + k);
      for (int q = 0; q < Q; ++q) sums[p][q] = AddAbsDifference(sums[p][q], x, f[q], constants);
    }
  }
}

template <int P, int Q>
void Forward(const PanelJob& job) {
  const Constants constants;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    Sums<P, Q> sums;
    for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
      const float* a[P];
      for (int p = 0; p < P; ++p) a[p] = job.a + (job.a_offset[pixel + p] + run->a);
      ForwardRun(a, job.panel + run->b * Q * kLanes, run->length, constants, sums.partial);
      if (run->flush) sums.Flush();
    }
    for (int p = 0; p < P; ++p) {
      float* out = job.out + job.out_offset[pixel + p];
      for (int q = 0; q < Q; ++q) Store(Negate(sums.total[p][q]), out + q * kLanes);
    }
  }
}

template <Slope S, int P, int Q>
inline void GradientRun(const float* const (&a)[P], const float* b, int64_t length,
                        const Vector (&x)[P][Q], const Constants& constants,
                        Vector (&sums)[P][Q]) {
  for (int64_t k = 0; k < length; ++k, b += Q * kLanes) {
    Vector f[Q];
    for (int q = 0; q < Q; ++q) f[q] = Load(b + q * kLanes);
    for (int p = 0; p < P; ++p) {
      const Vector g = Broadcast(a[p] + k);
      for (int q = 0; q < Q; ++q) {
        const Vector z = Subtract(f[q], x[p][q], constants);
        const Vector slope = S == Slope::kSign ? Sign(z, constants) : Clip(z, constants);
        sums[p][q] = MultiplyAdd(slope, g, sums[p][q]);
      }
    }
  }
}

template <Slope S, int P, int Q>
void Gradient(const PanelJob& job) {
  const Constants constants;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    Sums<P, Q> sums;
    Vector x[P][Q];
    for (int p = 0; p < P; ++p) {
      const float* from = job.x + job.out_offset[pixel + p];
      for (int q = 0; q < Q; ++q) x[p][q] = Load(from + q * kLanes);
    }
    for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
      const float* a[P];
      for (int p = 0; p < P; ++p) a[p] = job.a + (job.a_offset[pixel + p] + run->a);
      GradientRun<S>(a, job.panel + run->b * Q * kLanes, run->length, x, constants, sums.partial);
      if (run->flush) sums.Flush();
    }
    for (int p = 0; p < P; ++p) {
      float* out = job.out + job.out_offset[pixel + p];
      for (int q = 0; q < Q; ++q) Store(sums.total[p][q], out + q * kLanes);
    }
  }
}

template <typename T>
void ToFloatRow(const T* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(in[i]);
}

template <typename T>
void FromFloatRow(const float* in, int64_t count, T* out) {
  for (int64_t i = 0; i < count; ++i) FromFloat(in[i], out + i);
}

#ifdef __F16C__
template <>
void ToFloatRow(const Float16* in, int64_t count, float* out) {
  for (; count >= 8; count -= 8, in += 8, out += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    _mm256_storeu_ps(out, _mm256_cvtph_ps(bits));
  }
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(in[i]);
}

template <>
void FromFloatRow(const float* in, int64_t count, Float16* out) {
  for (; count >= 8; count -= 8, in += 8, out += 8) {
    const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(in), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bits);
  }
  for (int64_t i = 0; i < count; ++i) FromFloat(in[i], out + i);
}
#endif

void ToFloatType(DataType type, const void* in, int64_t count, float* out) {
  if (type == DataType::kFloat32) memcpy(out, in, count * sizeof(float));
  if (type == DataType::kBFloat16) ToFloatRow(static_cast<const BFloat16*>(in), count, out);
  if (type == DataType::kFloat16) ToFloatRow(static_cast<const Float16*>(in), count, out);
}

void FromFloatType(DataType type, const float* in, int64_t count, void* out) {
  if (type == DataType::kFloat32) memcpy(out, in, count * sizeof(float));
  if (type == DataType::kBFloat16) FromFloatRow(in, count, static_cast<BFloat16*>(out));
  if (type == DataType::kFloat16) FromFloatRow(in, count, static_cast<Float16*>(out));
}

// Pixels of a tile with 1 and with 2 vectors: forward P1, P2, gradient G1, G2.
template <int P1, int P2, int G1, int G2>
constexpr Tiles MakeTiles(const char* name) {
  return {name,
          kLanes,
          {P1, P2},
          {Forward<P1, 1>, Forward<P2, 2>},
          {G1, G2},
          {{Gradient<Slope::kClipped, G1, 1>, Gradient<Slope::kClipped, G2, 2>},
           {Gradient<Slope::kSign, G1, 1>, Gradient<Slope::kSign, G2, 2>}},
          ToFloatType,
          FromFloatType};
}

}  // namespace
}  // namespace pkkd
