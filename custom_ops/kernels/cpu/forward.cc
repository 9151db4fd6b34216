// Y[n,p,q,o] = -sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
//
// The filters are packed into panels of one or two vectors of outputs. The pixels a strip of output
// rows sees are copied, padded, as float32 into a buffer of second-level cache size; then panels x
// tiles of pixels run over it without a bounds check.
#include <algorithm>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/depthwise.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/pairs.h"
#include "custom_ops/kernels/cpu/strips.h"

namespace pkkd {

struct PackedFilters {
  const void* filters;  // as they came
  const Tiles* tiles;   // whose inner loops read the rest; null if depthwise
  Buffer<float> panels, centres;
};

namespace {

// Pairs round sums of operands: a short sum may be small beside its operands, and is not paired.
constexpr int64_t kMinPairedTerms = 16;

const Tiles& TilesFor(const AdderShape& shape) {
  const Tiles& tiles = SelectTiles();
  const bool is_short = shape.taps() * shape.group_channels() < kMinPairedTerms;
  return is_short && tiles.unpaired != nullptr ? *tiles.unpaired : tiles;
}

class ForwardPass {
 public:
  // `packed` may be null: then it packs `filters` itself.
  ForwardPass(const AdderShape& shape, DataType type, const void* x, const void* filters,
              const PackedFilters* packed, void* y);
  void Compute(const ParallelFor& parallel_for);
  // Instead of Compute: the filters alone.
  PackedFilters Packed(const ParallelFor& parallel_for);

 private:
  struct Scratch {
    Buffer<float> strip, pairs, out;
  };

  int64_t terms() const { return tiles_.pair == nullptr ? 1 : 2; }  // taken at a time
  // Channels of a group as the inner loops see them: whole pairs, if they take them in pairs.
  int64_t row_channels() const { return CeilDiv(s_.group_channels(), terms()) * terms(); }
  bool zero_channel() const { return row_channels() != s_.group_channels(); }
  const float* packed() const { return given_ ? given_->panels.get() : own_panels_.get(); }
  const float* centres() const { return given_ ? given_->centres.get() : own_centres_.get(); }
  int64_t rows_of_filters() const { return s_.taps() * row_channels(); }

  void Pack(const ParallelFor& parallel_for) const;
  void PackRows(int64_t first, int64_t last) const;
  void StoreRow(int64_t row, const float* values) const;
  void ComputeStrip(const Strip& strip, const Scratch& scratch) const;
  const float* CopyStrip(const Strip& strip, const Scratch& scratch) const;
  void PanelOverStrip(int64_t group, const Panel& panel, const float* a, void* y,
                      const PixelOffsets& offsets, const Scratch& scratch) const;

  const AdderShape s_;
  const DataType type_;
  const void* const x_;
  const void* const filters_;
  const PackedFilters* const given_;
  void* const y_;
  const Tiles& tiles_;
  const std::vector<Panel> panels_;
  const int64_t group_floats_;  // packed filters of a group
  Buffer<float> own_panels_, own_centres_;  // where none are given
  const bool in_place_;  // x is read where it lies: float32, and no window reaches over an edge
  const ForwardStrips strips_;
};

ForwardPass::ForwardPass(const AdderShape& shape, DataType type, const void* x,
                         const void* filters, const PackedFilters* packed, void* y)
    : s_(Flattened(shape)),
      type_(type),
      x_(x),
      filters_(filters),
      given_(packed),
      y_(y),
      tiles_(packed ? *packed->tiles : TilesFor(s_)),
      panels_(MakePanels(tiles_, s_.group_outputs(), rows_of_filters())),
      group_floats_(PackedFloats(tiles_, panels_, rows_of_filters())),
      own_panels_(packed ? 0 : s_.groups * group_floats_),
      own_centres_(packed ? 0 : s_.channels),
      in_place_(type == DataType::kFloat32 && terms() == 1 &&
                ForwardStrips::WindowOf(s_, 0, s_.output_height).IsInside(s_.height, s_.width)),
      strips_(s_, {s_.groups * row_channels(), row_channels(), tiles_.max_vectors * tiles_.lanes,
                   in_place_}) {}

void ForwardPass::Compute(const ParallelFor& parallel_for) {
  if (given_ == nullptr) Pack(parallel_for);
  const int64_t operations = strips_.max_pixels() * s_.outputs * rows_of_filters();
  parallel_for(strips_.items(), operations / tiles_.lanes, [&](int64_t first, int64_t last) {
    const int64_t floats = strips_.buffer_floats();
    const Scratch scratch{Buffer<float>(floats), Buffer<float>(zero_channel() ? floats : 0),
                          Buffer<float>(strips_.scratch_floats())};
    for (int64_t item = first; item < last; ++item) ComputeStrip(strips_.At(item), scratch);
  });
}

PackedFilters ForwardPass::Packed(const ParallelFor& parallel_for) {
  Pack(parallel_for);
  return {filters_, &tiles_, std::move(own_panels_), std::move(own_centres_)};
}

void ForwardPass::Pack(const ParallelFor& parallel_for) const {
  if (terms() == 2) {
    parallel_for(s_.channels, s_.taps() * s_.group_outputs(), [&](int64_t first, int64_t last) {
      Centres(s_, tiles_, type_, filters_, first, last, own_centres_.get());
    });
  }
  parallel_for(rows_of_filters() / terms(), 2 * s_.outputs,
               [&](int64_t first, int64_t last) { PackRows(first, last); });
}

// Packs the filters that meet terms [first, last), pairs or single ones.
void ForwardPass::PackRows(int64_t first, int64_t last) const {
  const int64_t inputs = s_.group_channels();
  const Buffer<float> rows(terms() * s_.outputs);
  for (int64_t row = first * terms(); row < last * terms(); row += terms()) {
    const int64_t tap = row / row_channels(), c = row % row_channels();
    for (int64_t t = 0; t < terms() && c + t < inputs; ++t) {
      tiles_.to_float(type_, At(type_, filters_, (tap * inputs + c + t) * s_.outputs), s_.outputs,
                      rows.get() + t * s_.outputs);
    }
    if (terms() == 2) PairFilters(s_, own_centres_.get(), c, rows.get());
    for (int64_t t = 0; t < terms(); ++t) StoreRow(row + t, rows.get() + t * s_.outputs);
  }
}

// One row of all outputs, cut up for the panels.
void ForwardPass::StoreRow(int64_t row, const float* values) const {
  for (int64_t group = 0; group < s_.groups; ++group, values += s_.group_outputs()) {
    for (const Panel& panel : panels_) {
      const int64_t lanes = panel.vectors * tiles_.lanes;
      float* out = own_panels_.get() + group * group_floats_ + panel.offset + row * lanes;
      std::copy(values + panel.first, values + panel.first + panel.width, out);
      std::fill(out + panel.width, out + lanes, 0.0f);
    }
  }
}

void ForwardPass::ComputeStrip(const Strip& strip, const Scratch& scratch) const {
  const float* a = CopyStrip(strip, scratch);
  const int64_t start =
      (strip.image * s_.output_height + strip.first_row) * s_.output_width * s_.outputs;
  for (int64_t group = 0; group < s_.groups; ++group) {
    for (const Panel& panel : panels_) {
      void* y = At(type_, y_, start + group * s_.group_outputs() + panel.first);
      PanelOverStrip(group, panel, a + group * row_channels(), y, strips_.OffsetsOf(strip),
                     scratch);
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
  if (terms() == 1) return copy;
  float* pairs = zero_channel() ? scratch.pairs.get() : copy;
  tiles_.pair(copy, centres(), window.rows * window.columns, s_.groups, s_.group_channels(),
              pairs);
  return pairs;
}

void ForwardPass::PanelOverStrip(int64_t group, const Panel& panel, const float* a, void* y,
                                 const PixelOffsets& offsets, const Scratch& scratch) const {
  const bool direct = type_ == DataType::kFloat32 && panel.width == panel.vectors * tiles_.lanes;
  const int64_t tile = tiles_.forward_pixels[panel.vectors - 1];
  PanelJob job = {};
  job.a = a;
  job.a_offset = offsets.a();
  job.panel = packed() + group * group_floats_ + panel.offset;
  job.runs = strips_.runs().data();
  job.run_count = strips_.runs().size();
  job.out = direct ? static_cast<float*>(y) : scratch.out.get();
  job.out_offset = direct ? offsets.tensor() : offsets.scratch();
  job.pixels = CeilDiv(offsets.pixels(), tile) * tile;
  tiles_.forward[panel.vectors - 1](job);
  for (int64_t pixel = 0; pixel < offsets.pixels() && !direct; ++pixel) {
    tiles_.from_float(type_, scratch.out.get() + offsets.scratch()[pixel], panel.width,
                      At(type_, y, offsets.tensor()[pixel]));
  }
}

}  // namespace

PackedFiltersPointer PackFilters(const AdderShape& shape, DataType type, const void* filters) {
  if (IsDepthwise(shape)) {
    return std::make_shared<const PackedFilters>(
        PackedFilters{filters, nullptr, Buffer<float>(0), Buffer<float>(0)});
  }
  AdderShape smallest = shape;  // there may be no images yet
  smallest.batch = smallest.output_height = smallest.output_width = 1;
  smallest.pad_top = smallest.pad_left = 0;
  smallest.height = (shape.kernel_height - 1) * shape.dilation_height + 1;
  smallest.width = (shape.kernel_width - 1) * shape.dilation_width + 1;
  ForwardPass pass(smallest, type, nullptr, filters, nullptr, nullptr);
  return std::make_shared<const PackedFilters>(
      pass.Packed([](int64_t items, int64_t, const RangeBody& body) { body(0, items); }));
}

void AdderForward(const AdderShape& shape, DataType type, const void* x,
                  const PackedFilters& filters, void* y, const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  if (filters.tiles == nullptr) {
    DepthwiseForward(shape, type, x, filters.filters, y, parallel_for);
  } else {
    ForwardPass(shape, type, x, filters.filters, &filters, y).Compute(parallel_for);
  }
}

void AdderForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                  void* y, const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  if (IsDepthwise(shape)) {
    DepthwiseForward(shape, type, x, filters, y, parallel_for);
  } else {
    ForwardPass(shape, type, x, filters, nullptr, y).Compute(parallel_for);
  }
}

}  // namespace pkkd
