// The inner loops over the vectors of the simd_*.h included before: P pixels x Q vectors of filters
// in registers. Compiled once for each instruction set.
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

}  // namespace
}  // namespace pkkd
