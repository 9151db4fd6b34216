// Y[n,p,q,o] = -sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
//
// The filters are packed into panels of one or two vectors of outputs. The pixels a strip of output
// rows sees are copied, padded, as float32 into a buffer of second-level cache size; then panels x
// tiles of pixels run over it without a bounds check.
#include <algorithm>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/depthwise.h"
#include "custom_ops/kernels/cpu/forward_filters.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/strips.h"

namespace pkkd {
namespace {

class ForwardPass {
 public:
  ForwardPass(const AdderShape& shape, DataType type, const void* x, const PackedFilters& filters,
              void* y);
  void Compute(const ParallelFor& parallel_for) const;

 private:
  struct Scratch {
    Buffer<float> strip, pairs, sums, out;
  };

  bool zero_channel() const { return layout_.row_channels() != s_.group_channels(); }
  Scratch MakeScratch() const;
  void ComputeStrip(const Strip& strip, const Scratch& scratch) const;
  const float* CopyStrip(const Strip& strip, const Scratch& scratch) const;
  PanelJob JobOver(const PixelOffsets& offsets, const float* a, const Scratch& scratch) const;
  void PanelOverStrip(const PanelJob& over, const Panel& panel, const float* filters, void* y,
                      const PixelOffsets& offsets, const Scratch& scratch) const;
  void RunInnerLoop(PanelJob job, const Panel& panel, int64_t pixels) const;

  const AdderShape s_;
  const DataType type_;
  const void* const x_;
  const PackedFilters& filters_;
  void* const y_;
  const Tiles& tiles_;
  const FilterLayout layout_;
  const bool in_place_;  // x is read where it lies: float32, and no window reaches over an edge
  const ForwardStrips strips_;
};

ForwardPass::ForwardPass(const AdderShape& shape, DataType type, const void* x,
                         const PackedFilters& filters, void* y)
    : s_(Flattened(shape)),
      type_(type),
      x_(x),
      filters_(filters),
      y_(y),
      tiles_(*filters.tiles),
      layout_(s_, tiles_),
      in_place_(type == DataType::kFloat32 && layout_.terms() == 1 &&
                ForwardStrips::WindowOf(s_, 0, s_.output_height).IsInside(s_.height, s_.width)),
      strips_(s_, {s_.groups * layout_.row_channels(), layout_.row_channels(),
                   tiles_.max_vectors * tiles_.lanes, in_place_}) {}

void ForwardPass::Compute(const ParallelFor& parallel_for) const {
  const int64_t operations = strips_.max_pixels() * s_.outputs * layout_.rows();
  parallel_for(strips_.items(), operations / tiles_.lanes, [&](int64_t first, int64_t last) {
    const Scratch scratch = MakeScratch();
    for (int64_t item = first; item < last; ++item) ComputeStrip(strips_.At(item), scratch);
  });
}

ForwardPass::Scratch ForwardPass::MakeScratch() const {
  const int64_t floats = strips_.buffer_floats();
  const int64_t sums = layout_.by_maxima() ? strips_.max_pixels() + kMaxTilePixels : 0;
  return {Buffer<float>(floats), Buffer<float>(zero_channel() ? floats : 0), Buffer<float>(sums),
          Buffer<float>(strips_.scratch_floats())};
}

void ForwardPass::ComputeStrip(const Strip& strip, const Scratch& scratch) const {
  const float* a = CopyStrip(strip, scratch);
  const PixelOffsets& offsets = strips_.OffsetsOf(strip);
  const int64_t start =
      (strip.image * s_.output_height + strip.first_row) * s_.output_width * s_.outputs;
  for (int64_t group = 0; group < s_.groups; ++group) {
    const PanelJob job = JobOver(offsets, a + group * layout_.row_channels(), scratch);
    for (const Panel& panel : layout_.panels()) {
      const float* filters = filters_.panels.get() + layout_.OffsetOf(group, panel);
      void* y = At(type_, y_, start + group * s_.group_outputs() + panel.first);
      PanelOverStrip(job, panel, filters, y, offsets, scratch);
    }
  }
}

// Returns where the strip's first pixel is, in the inner loops' form.
const float* ForwardPass::CopyStrip(const Strip& strip, const Scratch& scratch) const {
  const Window window = strips_.WindowOf(strip);
  const int64_t image_start = strip.image * s_.height * s_.width * s_.channels;
  if (in_place_) {
    return static_cast<const float*>(x_) + image_start + window.first_row * strips_.row_stride();
  }
  float* copy = scratch.strip.get();
  CopyWindow(tiles_, type_, At(type_, x_, image_start), s_.height, s_.width, s_.channels, window,
             copy);
  if (layout_.terms() == 1) return copy;
  float* pairs = zero_channel() ? scratch.pairs.get() : copy;
  tiles_.pair(copy, filters_.centres.get(), window.rows * window.columns, s_.groups,
              s_.group_channels(), pairs);
  return pairs;
}

// What all panels share.
PanelJob ForwardPass::JobOver(const PixelOffsets& offsets, const float* a,
                              const Scratch& scratch) const {
  PanelJob job = {};
  job.a = a;
  job.a_offset = offsets.a();
  job.runs = strips_.runs().data();
  job.run_count = strips_.runs().size();
  if (layout_.by_maxima()) {
    job.pixels = offsets.pixels();
    tiles_.maxima.sum_pixels(job, scratch.sums.get());
    std::fill_n(scratch.sums.get() + job.pixels, kMaxTilePixels, scratch.sums[job.pixels - 1]);
    job.pixel_sums = scratch.sums.get();
  }
  return job;
}

void ForwardPass::PanelOverStrip(const PanelJob& over, const Panel& panel, const float* filters,
                                 void* y, const PixelOffsets& offsets,
                                 const Scratch& scratch) const {
  const bool direct = type_ == DataType::kFloat32 && panel.width == layout_.lanes(panel);
  PanelJob job = over;
  job.panel = filters;
  job.filter_sums = filters + layout_.rows() * layout_.lanes(panel);
  job.out = direct ? static_cast<float*>(y) : scratch.out.get();
  job.out_offset = direct ? offsets.tensor() : offsets.scratch();
  RunInnerLoop(job, panel, offsets.pixels());
  for (int64_t pixel = 0; pixel < offsets.pixels() && !direct; ++pixel) {
    tiles_.from_float(type_, scratch.out.get() + offsets.scratch()[pixel], panel.width,
                      At(type_, y, offsets.tensor()[pixel]));
  }
}

// Over whole tiles of pixels.
void ForwardPass::RunInnerLoop(PanelJob job, const Panel& panel, int64_t pixels) const {
  const int64_t i = panel.vectors - 1;
  const bool maxima = layout_.by_maxima();
  const int64_t tile = maxima ? tiles_.maxima.pixels[i] : tiles_.forward_pixels[i];
  job.pixels = CeilDiv(pixels, tile) * tile;
  (maxima ? tiles_.maxima.forward[i] : tiles_.forward[i])(job);
}

}  // namespace

PackedFiltersPointer PackFilters(const AdderShape& shape, DataType type, const void* filters) {
  if (IsDepthwise(shape)) {
    return std::make_shared<const PackedFilters>(
        PackedFilters{filters, nullptr, Buffer<float>(0), Buffer<float>(0)});
  }
  const ParallelFor here = [](int64_t items, int64_t, const RangeBody& body) { body(0, items); };
  return std::make_shared<const PackedFilters>(PackForwardFilters(shape, type, filters, here));
}

void AdderForward(const AdderShape& shape, DataType type, const void* x,
                  const PackedFilters& filters, void* y, const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  if (filters.tiles == nullptr) {
    DepthwiseForward(shape, type, x, filters.filters, y, parallel_for);
  } else {
    ForwardPass(shape, type, x, filters, y).Compute(parallel_for);
  }
}

void AdderForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                  void* y, const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  if (IsDepthwise(shape)) {
    DepthwiseForward(shape, type, x, filters, y, parallel_for);
  } else {
    const PackedFilters packed = PackForwardFilters(shape, type, filters, parallel_for);
    ForwardPass(shape, type, x, packed, y).Compute(parallel_for);
  }
}

}  // namespace pkkd
