#include "custom_ops/kernels/cpu/forward_filters.h"

#include <algorithm>

#include "custom_ops/kernels/cpu/pairs.h"

namespace pkkd {
namespace {

// Beside the sums of operands that pairs round, a short sum of distances may be small; for maxima it
// is too little work to pay for the check of each result.
bool IsShort(const AdderShape& shape) {
  constexpr int64_t kMinTerms = 16;
  return shape.taps() * shape.group_channels() < kMinTerms;
}

const Tiles& TilesFor(const AdderShape& shape) {
  const Tiles& tiles = SelectTiles();
  return IsShort(shape) && tiles.unpaired != nullptr ? *tiles.unpaired : tiles;
}

class FilterPacker {
 public:
  FilterPacker(const AdderShape& shape, DataType type, const void* filters);
  PackedFilters Pack(const ParallelFor& parallel_for);

 private:
  void PackRows(int64_t first, int64_t last) const;
  void StoreRow(int64_t row, const float* values) const;

  const AdderShape s_;
  const DataType type_;
  const void* const filters_;
  const FilterLayout layout_;
  Buffer<float> panels_, centres_;
};

FilterPacker::FilterPacker(const AdderShape& shape, DataType type, const void* filters)
    : s_(shape),
      type_(type),
      filters_(filters),
      layout_(shape, TilesFor(shape)),
      panels_(s_.groups * layout_.group_floats()),
      centres_(layout_.terms() == 2 ? s_.channels : 0) {}

PackedFilters FilterPacker::Pack(const ParallelFor& parallel_for) {
  const int64_t terms = layout_.terms(), panels = layout_.panels().size();
  if (terms == 2) {
    parallel_for(s_.channels, s_.taps() * s_.group_outputs(), [&](int64_t first, int64_t last) {
      Centres(s_, layout_.tiles(), type_, filters_, first, last, centres_.get());
    });
  }
  parallel_for(layout_.rows() / terms, 2 * s_.outputs,
               [&](int64_t first, int64_t last) { PackRows(first, last); });
  const int64_t sums = layout_.by_maxima() ? s_.groups * panels : 0;
  parallel_for(sums, 2 * layout_.rows() * layout_.tiles().lanes, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Panel& panel = layout_.panels()[i % panels];
      SumFilters(layout_.rows(), layout_.lanes(panel),
                 panels_.get() + layout_.OffsetOf(i / panels, panel));
    }
  });
  return {filters_, &layout_.tiles(), std::move(panels_), std::move(centres_)};
}

// Packs the filters that meet terms [first, last), pairs or single ones.
void FilterPacker::PackRows(int64_t first, int64_t last) const {
  const int64_t inputs = s_.group_channels(), terms = layout_.terms();
  const Buffer<float> rows(terms * s_.outputs);
  for (int64_t row = first * terms; row < last * terms; row += terms) {
    const int64_t tap = row / layout_.row_channels(), c = row % layout_.row_channels();
    for (int64_t t = 0; t < terms && c + t < inputs; ++t) {
      layout_.tiles().to_float(type_, At(type_, filters_, (tap * inputs + c + t) * s_.outputs),
                               s_.outputs, rows.get() + t * s_.outputs);
    }
    if (terms == 2) PairFilters(s_, centres_.get(), c, rows.get());
    for (int64_t t = 0; t < terms; ++t) StoreRow(row + t, rows.get() + t * s_.outputs);
  }
}

// One row of all outputs, cut up for the panels.
void FilterPacker::StoreRow(int64_t row, const float* values) const {
  for (int64_t group = 0; group < s_.groups; ++group, values += s_.group_outputs()) {
    for (const Panel& panel : layout_.panels()) {
      const int64_t lanes = layout_.lanes(panel);
      float* out = panels_.get() + layout_.OffsetOf(group, panel) + row * lanes;
      std::copy(values + panel.first, values + panel.first + panel.width, out);
      std::fill(out + panel.width, out + lanes, 0.0f);
    }
  }
}

}  // namespace

FilterLayout::FilterLayout(const AdderShape& shape, const Tiles& tiles)
    : tiles_(tiles),
      by_maxima_(tiles.maxima.sum_pixels != nullptr && !IsShort(shape)),
      row_channels_(CeilDiv(shape.group_channels(), terms()) * terms()),
      rows_(shape.taps() * row_channels_),
      panels_(MakePanels(tiles, shape.group_outputs(), rows_ + (by_maxima_ ? kMaximaRows : 0))),
      group_floats_(PackedFloats(tiles, panels_, rows_ + (by_maxima_ ? kMaximaRows : 0))) {}

PackedFilters PackForwardFilters(const AdderShape& shape, DataType type, const void* filters,
                                 const ParallelFor& parallel_for) {
  return FilterPacker(shape, type, filters).Pack(parallel_for);
}

}  // namespace pkkd
