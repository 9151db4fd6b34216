// The inner loops over the vectors of the int8_simd_*.h included before: P pixels x Q vectors of
// outputs in registers. No sum runs across a vector: each lane is an output. Compiled once for each
// instruction set.
#include <algorithm>

#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {
namespace {

// The pixels of a job, one after the other.
class Cursor {
 public:
  explicit Cursor(const Int8Job& job) : job_(job), row_(job.a), next_(job.a) {}

  const uint8_t* Next() {
    const uint8_t* pixel = next_;
    next_ += job_.column_step;
    if (++column_ == job_.columns) {
      column_ = 0;
      next_ = row_ += job_.row_step;
    }
    return pixel;
  }

 private:
  const Int8Job& job_;
  const uint8_t *row_, *next_;
  int64_t column_ = 0;
};

template <int P, int Q>
inline void ForwardTile(const Int8Job& job, int64_t pixel, Cursor* cursor) {
  const uint8_t* start[P];
  UNROLL for (int p = 0; p < P; ++p) start[p] = cursor->Next();
  Sums sums[P * Q];
  UNROLL for (int i = 0; i < P * Q; ++i) sums[i] = Zero();
  const uint8_t* b = job.panel;
  for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
    const uint8_t* a[P];
    UNROLL for (int p = 0; p < P; ++p) a[p] = start[p] + run->a;
    int64_t k = 0;
    do {
      const int64_t last = kMostBytes ? std::min(run->length, k + kMostBytes) : run->length;
      for (; k < last; k += kGroup, b += Q * kLanes * kGroup) {
        Filters f[Q];
        UNROLL for (int q = 0; q < Q; ++q) f[q] = LoadFilters(b + q * kLanes * kGroup);
        UNROLL for (int p = 0; p < P; ++p) {
          const Terms x = Broadcast(a[p] + k);
          UNROLL for (int q = 0; q < Q; ++q) AddDistance(x, f[q], &sums[p * Q + q]);
        }
      }
      UNROLL for (int i = 0; i < P * Q; ++i) Flush(&sums[i]);
    } while (kMostBytes && k < run->length);
  }
  const Epilogue<Q> epilogue(job);
  UNROLL for (int p = 0; p < P; ++p) epilogue.Finish(sums + p * Q, pixel + p);
}

template <int P, int Q>
void ForwardFrom(const Int8Job& job, int64_t pixel, Cursor* cursor) {
  for (; pixel + P <= job.pixels; pixel += P) ForwardTile<P, Q>(job, pixel, cursor);
  if constexpr (P > 1) {
    if (pixel < job.pixels) ForwardFrom<P / 2, Q>(job, pixel, cursor);
  }
}

template <int P, int Q>
void Forward(const Int8Job& job) {
  Cursor cursor(job);
  ForwardFrom<P, Q>(job, 0, &cursor);
}

typedef uint8_t Bytes __attribute__((vector_size(kInt8Block)));
typedef uint16_t Words __attribute__((vector_size(2 * kInt8Block)));
typedef uint32_t Totals __attribute__((vector_size(4 * kInt8Block)));

inline Bytes LoadBytes(const uint8_t* from) {
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

inline Words Widened(Bytes bytes) {
#ifdef __AVX2__
  return Words(_mm256_cvtepu8_epi16(__m128i(bytes)));
#else
  return __builtin_convertvector(bytes, Words);
#endif
}

constexpr int kDepthwisePixels = 4;
constexpr int64_t kMostTaps = 257;  // of bytes in a sum of 16 bits

// Channel by channel: every tap has kInt8Block filters.
template <int P>
inline void DepthwiseTile(const Int8Job& job, int64_t pixel, Cursor* cursor) {
  const uint8_t* start[P];
  UNROLL for (int p = 0; p < P; ++p) start[p] = cursor->Next();
  Totals total[P] = {};
  for (int64_t first = 0; first < job.run_count; first += kMostTaps) {
    const int64_t last = std::min(job.run_count, first + kMostTaps);
    Words sums[P] = {};
    for (int64_t tap = first; tap < last; ++tap) {
      const Bytes f = LoadBytes(job.panel + tap * kInt8Block);
      UNROLL for (int p = 0; p < P; ++p) {
        const Bytes x = LoadBytes(start[p] + job.runs[tap].a);
        const Bytes distance = (x > f ? x : f) - (x > f ? f : x);
        sums[p] += Widened(distance);
      }
    }
    UNROLL for (int p = 0; p < P; ++p) total[p] += __builtin_convertvector(sums[p], Totals);
  }
  constexpr int Q = kInt8Block / kLanes;
  const Epilogue<Q> epilogue(job);
  for (int p = 0; p < P; ++p) {
    uint32_t numbers[kInt8Block];
    __builtin_memcpy(numbers, &total[p], sizeof numbers);
    Sums sums[Q];
    UNROLL for (int q = 0; q < Q; ++q) sums[q] = LoadSums(numbers + q * kLanes);
    epilogue.Finish(sums, pixel + p);
  }
}

void Depthwise(const Int8Job& job) {
  Cursor cursor(job);
  int64_t pixel = 0;
  for (; pixel + kDepthwisePixels <= job.pixels; pixel += kDepthwisePixels) {
    DepthwiseTile<kDepthwisePixels>(job, pixel, &cursor);
  }
  for (; pixel < job.pixels; ++pixel) DepthwiseTile<1>(job, pixel, &cursor);
}

void Flip(const int8_t* in, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(in[i]) ^ 0x80;
}

}  // namespace
}  // namespace pkkd
