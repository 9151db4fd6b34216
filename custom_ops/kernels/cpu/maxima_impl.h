// Inner loops of maxima.h, after tiles_impl.h and over its vectors.
namespace pkkd {
namespace {

struct AddMaxima {
  static constexpr int kTerms = 1;
  using Terms = Vector;
  static inline Terms Load(const float* x) { return Broadcast(x); }
  static inline Vector To(Vector sum, Terms x, const Vector* f, int, const Constants& k) {
    return AddMaximum(sum, x, *f, k);
  }
};

template <int P, int Q>
struct Masks {
  Mask at[P * Q];

  inline bool AllTrue() const {
    Mask all = at[0];
    UNROLL for (int i = 1; i < P * Q; ++i) all = Both(all, at[i]);
    return IsAllTrue(all);
  }
};

// Turns sums of maxima into responses. Returns which of them are sound.
template <int P, int Q>
inline Masks<P, Q> Respond(const PanelJob& job, int64_t pixel, Tile<P, Q>* maxima) {
  Masks<P, Q> sound;
  UNROLL for (int p = 0; p < P; ++p) {
    const Vector x = Broadcast(job.pixel_sums + pixel + p);
    UNROLL for (int q = 0; q < Q; ++q) {
      const int i = p * Q + q;
      const Vector negative = Negate(maxima->at[i]), f = Load(job.filter_sums + q * kLanes);
      maxima->at[i] = Add(Add(x, negative), Add(f, negative));
      const Vector bound = Load(job.filter_sums + (Q + q) * kLanes);
      sound.at[i] = IsFiniteAndAtMost(maxima->at[i], bound);
    }
  }
  return sound;
}

// Seldom needed, and out of the way of the loop's registers.
template <int P, int Q>
__attribute__((noinline, cold)) void Mend(const PanelJob& job, int64_t pixel,
                                          const Masks<P, Q>& sound, Tile<P, Q>* responses) {
  const Constants constants;
  const Tile<P, Q> total = SumRuns<AddDistances, P, Q>(job, pixel, constants);
  UNROLL for (int i = 0; i < P * Q; ++i) {
    responses->at[i] = Select(sound.at[i], responses->at[i], Negate(total.at[i]));
  }
}

template <int P, int Q>
void ForwardByMaxima(const PanelJob& job) {
  const Constants constants;
  for (int64_t pixel = 0; pixel < job.pixels; pixel += P) {
    Tile<P, Q> tile = SumRuns<AddMaxima, P, Q>(job, pixel, constants);
    const Masks<P, Q> sound = Respond(job, pixel, &tile);
    if (!sound.AllTrue()) Mend(job, pixel, sound, &tile);
    UNROLL for (int p = 0; p < P; ++p) {
      float* out = job.out + job.out_offset[pixel + p];
      UNROLL for (int q = 0; q < Q; ++q) Store(tile.at[p * Q + q], out + q * kLanes);
    }
  }
}

constexpr int kSummedPixels = 4;

// Sums of the terms of some pixels: lanes, and what does not fill a vector.
struct PixelSums {
  Tile<kSummedPixels, 1> lanes;
  float rest[kSummedPixels];

  void Clear() {
    lanes.Clear();
    for (float& value : rest) value = 0;
  }
  void AddRun(const float* const* a, int64_t length) {
    int64_t k = 0;
    for (; k + kLanes <= length; k += kLanes) {
      UNROLL for (int p = 0; p < kSummedPixels; ++p) {
        lanes.at[p] = Add(lanes.at[p], Load(a[p] + k));
      }
    }
    for (; k < length; ++k) {
      for (int p = 0; p < kSummedPixels; ++p) rest[p] += a[p][k];
    }
  }
  void Move(PixelSums* from) {  // and leaves zeros there
    lanes.Move(&from->lanes);
    for (int p = 0; p < kSummedPixels; ++p) rest[p] += from->rest[p];
    from->Clear();
  }
};

// Whole tiles of pixels, too.
void SumPixels(const PanelJob& job, float* sums) {
  for (int64_t pixel = 0; pixel < job.pixels; pixel += kSummedPixels) {
    PixelSums sum, total;
    sum.Clear();
    total.Clear();
    for (const Run* run = job.runs; run != job.runs + job.run_count; ++run) {
      const float* a[kSummedPixels];
      for (int p = 0; p < kSummedPixels; ++p) a[p] = job.a + job.a_offset[pixel + p] + run->a;
      sum.AddRun(a, run->length);
      if (run->flush) total.Move(&sum);
    }
    for (int p = 0; p < kSummedPixels; ++p) {
      sums[pixel + p] = SumOfLanes(total.lanes.at[p]) + total.rest[p];
    }
  }
}

template <int F1, int F2>
constexpr MaximaTiles MakeMaximaTiles() {
  static_assert(F1 <= kMaxTilePixels && F2 <= kMaxTilePixels && kSummedPixels <= kMaxTilePixels);
  return {{F1, F2}, {ForwardByMaxima<F1, 1>, ForwardByMaxima<F2, 2>}, SumPixels};
}

}  // namespace
}  // namespace pkkd
