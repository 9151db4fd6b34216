// The inner loops over the vectors of the simd_*.h included before: P pixels x Q vectors of filters
// in registers. Compiled once for each instruction set.
#include "custom_ops/kernels/cpu/number_types.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {
namespace {

// Rolled loops would keep the arrays of vectors in memory instead of in registers.
#define UNROLL _Pragma("GCC unroll 16")

// Vectors of P pixels x Q panel vectors.
template <int P, int Q>
struct Tile {
  Vector at[P * Q];

  inline void Clear() {
    UNROLL for (int i = 0; i < P * Q; ++i) at[i] = Zero();
  }
  inline void Move(Tile* from) {  // and leaves zeros there
    UNROLL for (int i = 0; i < P * Q; ++i) at[i] = Add(at[i], from->at[i]);
    from->Clear();
  }
};

// Of a sum over all runs: what it adds for one pixel and one vector of filters.
struct AddDistances {
  static constexpr int kTerms = pkkd::kTerms;
  using Terms = pkkd::Terms;
  static inline Terms Load(const float* x) { return LoadTerms(x); }
  static inline Vector To(Vector sum, const Terms& x, const Vector* f, int stride,
                          const Constants& k) {
    return AddDistance(sum, x, f, stride, k);
  }
};

// Forced inline: the sums of a call are returned through memory, and stay there.
template <class Step, int P, int Q>
inline __attribute__((always_inline)) Tile<P, Q> SumRuns(const PanelJob& job, int64_t pixel,
                                                         const Constants& constants) {
  Tile<P, Q> sum, total;
  sum.Clear();
  total.Clear();
  for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
    const float* a[P];
    UNROLL for (int p = 0; p < P; ++p) a[p] = job.a + (job.a_offset[pixel + p] + run->a);
    const float* b = job.panel + run->b * Q * kLanes;
    constexpr int kVectors = Step::kTerms * Q;
    for (int64_t k = 0; k < run->length; k += Step::kTerms, b += kVectors * kLanes) {
      Vector f[kVectors];
      UNROLL for (int i = 0; i < kVectors; ++i) f[i] = Load(b + i * kLanes);
      UNROLL for (int p = 0; p < P; ++p) {
        const typename Step::Terms x = Step::Load(a[p] + k);
        UNROLL for (int q = 0; q < Q; ++q) {
          sum.at[p * Q + q] = Step::To(sum.at[p * Q + q], x, f + q, Q, constants);
        }
      }
    }
    if (run->flush) total.Move(&sum);
  }
  return total;
}

template <int P, int Q>
void Forward(const PanelJob& job) {
  const Constants constants;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    const Tile<P, Q> total = SumRuns<AddDistances, P, Q>(job, pixel, constants);
    UNROLL for (int p = 0; p < P; ++p) {
      float* out = job.out + job.out_offset[pixel + p];
      UNROLL for (int q = 0; q < Q; ++q) Store(Negate(total.at[p * Q + q]), out + q * kLanes);
    }
  }
}

template <Slope S, int P, int Q>
void Gradient(const PanelJob& job) {
  const Constants constants;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    Tile<P, Q> x, sum, total;
    sum.Clear();
    total.Clear();
    UNROLL for (int p = 0; p < P; ++p) {
      const float* from = job.x + job.out_offset[pixel + p];
      UNROLL for (int q = 0; q < Q; ++q) x.at[p * Q + q] = Load(from + q * kLanes);
    }
    for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
      const float* a[P];
      UNROLL for (int p = 0; p < P; ++p) a[p] = job.a + (job.a_offset[pixel + p] + run->a);
      const float* b = job.panel + run->b * Q * kLanes;
      for (int64_t k = 0; k < run->length; ++k, b += Q * kLanes) {
        Vector f[Q];
        UNROLL for (int q = 0; q < Q; ++q) f[q] = Load(b + q * kLanes);
        UNROLL for (int p = 0; p < P; ++p) {
          const Vector g = Broadcast(a[p] + k);
          UNROLL for (int q = 0; q < Q; ++q) {
            const int i = p * Q + q;
            const Vector z = Subtract(i, f[q], x.at[i], constants);
            const Vector slope = S == Slope::kSign ? Sign(z, constants) : Clip(z, constants);
            sum.at[i] = MultiplyAdd(slope, g, sum.at[i]);
          }
        }
      }
      if (run->flush) total.Move(&sum);
    }
    UNROLL for (int p = 0; p < P; ++p) {
      float* out = job.out + job.out_offset[pixel + p];
      UNROLL for (int q = 0; q < Q; ++q) Store(total.at[p * Q + q], out + q * kLanes);
    }
  }
}

constexpr int kDepthwisePixels = 4;

void ForwardByChannel(const PanelJob& job) {
  constexpr int P = kDepthwisePixels;
  const Constants constants;
  const Run* const end = job.runs + job.run_count;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    for (int64_t c = 0; c < job.channels; c += kLanes) {
      Tile<P, 1> sum;
      sum.Clear();
      for (const Run* run = job.runs; run != end; ++run) {
        const Vector f = Load(job.panel + run->b * job.channels + c);
        UNROLL for (int p = 0; p < P; ++p) {
          const Vector x = Load(job.a + (job.a_offset[pixel + p] + run->a + c));
          sum.at[p] = Add(sum.at[p], AbsDifference(x, f, constants));
        }
      }
      UNROLL for (int p = 0; p < P; ++p) {
        Store(Negate(sum.at[p]), job.out + job.out_offset[pixel + p] + c);
      }
    }
  }
}

template <Slope S>
void GradientByChannel(const PanelJob& job) {
  constexpr int P = kDepthwisePixels;
  const Constants constants;
  const Run* const end = job.runs + job.run_count;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    for (int64_t c = 0; c < job.channels; c += kLanes) {
      Tile<P, 1> x, sum;
      sum.Clear();
      UNROLL for (int p = 0; p < P; ++p) x.at[p] = Load(job.x + job.out_offset[pixel + p] + c);
      for (const Run* run = job.runs; run != end; ++run) {
        const Vector f = Load(job.panel + run->b * job.channels + c);
        UNROLL for (int p = 0; p < P; ++p) {
          const Vector g = Load(job.a + (job.a_offset[pixel + p] + run->a + c));
          const Vector z = Subtract(p, f, x.at[p], constants);
          const Vector slope = S == Slope::kSign ? Sign(z, constants) : Clip(z, constants);
          sum.at[p] = MultiplyAdd(slope, g, sum.at[p]);
        }
      }
      UNROLL for (int p = 0; p < P; ++p) {
        Store(sum.at[p], job.out + job.out_offset[pixel + p] + c);
      }
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

// Panels of one vector: pixels of a forward and of a gradient tile.
template <int F1, int G1>
constexpr Tiles MakeTiles(const char* name, decltype(Tiles::pair) pair, const Tiles* unpaired) {
  static_assert(F1 <= kMaxTilePixels && G1 <= kMaxTilePixels);
  return {name,
          kLanes,
          1,
          {F1, 0},
          {Forward<F1, 1>, nullptr},
          {G1, 0},
          {{Gradient<Slope::kClipped, G1, 1>, nullptr}, {Gradient<Slope::kSign, G1, 1>, nullptr}},
          kDepthwisePixels,
          ForwardByChannel,
          {GradientByChannel<Slope::kClipped>, GradientByChannel<Slope::kSign>},
          pair,
          unpaired,
          {},
          ToFloatType,
          FromFloatType};
}

// Panels of one or two vectors: pixels of a tile with one and with two.
template <int F1, int F2, int G1, int G2>
constexpr Tiles MakeTiles(const char* name, const MaximaTiles& maxima = {}) {
  static_assert(F1 <= kMaxTilePixels && F2 <= kMaxTilePixels);
  static_assert(G1 <= kMaxTilePixels && G2 <= kMaxTilePixels);
  return {name,
          kLanes,
          2,
          {F1, F2},
          {Forward<F1, 1>, Forward<F2, 2>},
          {G1, G2},
          {{Gradient<Slope::kClipped, G1, 1>, Gradient<Slope::kClipped, G2, 2>},
           {Gradient<Slope::kSign, G1, 1>, Gradient<Slope::kSign, G2, 2>}},
          kDepthwisePixels,
          ForwardByChannel,
          {GradientByChannel<Slope::kClipped>, GradientByChannel<Slope::kSign>},
          nullptr,
          nullptr,
          maxima,
          ToFloatType,
          FromFloatType};
}

}  // namespace
}  // namespace pkkd
