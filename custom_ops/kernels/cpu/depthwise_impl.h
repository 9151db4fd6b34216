// Depthwise inner loops, after tiles_impl.h and over its vectors: a vector is one of channels.
namespace pkkd {
namespace {

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

}  // namespace
}  // namespace pkkd
