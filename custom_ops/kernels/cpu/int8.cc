// The filters are packed into panels of some vectors of outputs (int8_layout.h), the pixels that some
// rows of outputs see into a strip (int8_strips.h); then panels x tiles of pixels run over it without
// a bounds check, and the epilogue follows in the registers.
#include "custom_ops/kernels/cpu/int8.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "custom_ops/kernels/cpu/int8_layout.h"
#include "custom_ops/kernels/cpu/int8_strips.h"
#include "custom_ops/kernels/cpu/int8_tiles.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {
namespace {

constexpr int64_t kWantedItems = 8;  // of work, where there are few rows

class Int8Pass {
 public:
  Int8Pass(const AdderShape& shape, const int8_t* x, const PackedFiltersInt8& filters,
           int32_t zero, const Int8Epilogue& epilogue, int8_t* y);
  void Compute(const ParallelFor& parallel_for);

 private:
  void AddRuns();
  void CopyEpilogue();
  bool FitsInt32() const;
  int64_t Cost() const;
  void ComputeRows(int64_t image, int64_t row, int64_t rows, int64_t part, uint8_t* strip) const;
  void RunPanel(const Int8Panel& panel, const uint8_t* strip, int64_t pixel, int64_t pixels) const;

  const AdderShape s_;
  const int8_t* const x_;
  const PackedFiltersInt8& filters_;
  const Int8Tiles& tiles_;
  const Int8Layout layout_;
  const Int8Epilogue& epilogue_;
  int8_t* const y_;
  const Int8Strips strips_;
  const int64_t parts_;  // of the panels, computed by themselves
  bool fits_int32_;
  std::vector<Run> runs_;
  std::vector<int64_t> multiplier_, bias_;  // of every lane
};

Int8Pass::Int8Pass(const AdderShape& shape, const int8_t* x, const PackedFiltersInt8& filters,
                   int32_t zero, const Int8Epilogue& epilogue, int8_t* y)
    : s_(Flattened(shape)),
      x_(x),
      filters_(filters),
      tiles_(*filters.tiles),
      layout_(s_, tiles_),
      epilogue_(epilogue),
      y_(y),
      strips_(s_, layout_, tiles_, zero),
      parts_(std::clamp<int64_t>(CeilDiv(kWantedItems, s_.batch * s_.output_height), 1,
                                 layout_.panels().size())) {
  AddRuns();
  CopyEpilogue();
}

void Int8Pass::AddRuns() {
  const int64_t length = layout_.depthwise() ? 1 : layout_.group_bytes();
  for (int64_t tap = 0; tap < s_.taps(); ++tap) {
    const int64_t i = tap / s_.kernel_width, j = tap % s_.kernel_width;
    const int64_t a = i * s_.dilation_height * strips_.row_bytes() +
                      j * s_.dilation_width * layout_.pixel_bytes();
    if (layout_.depthwise()) {
      runs_.push_back({a, tap, length, false});
    } else {
      AppendRun(a, tap * length, length, &runs_);
    }
  }
}

void Int8Pass::CopyEpilogue() {
  multiplier_.resize(layout_.lanes());
  bias_.resize(layout_.lanes());
  for (const Int8Panel& panel : layout_.panels()) {
    const int64_t output = panel.group * s_.group_outputs() + panel.first;
    std::copy_n(epilogue_.multiplier + output, panel.width, multiplier_.begin() + panel.lane);
    std::copy_n(epilogue_.bias + output, panel.width, bias_.begin() + panel.lane);
  }
  fits_int32_ = FitsInt32();
  for (int64_t& bias : bias_) bias += tiles_.lift;
}

// Whether t >> shift does, however large the sums are.
bool Int8Pass::FitsInt32() const {
  if (epilogue_.shift >= 31) return true;  // |t| < 2^62
  int64_t most = 0;
  for (int64_t lane = 0; lane < layout_.lanes(); ++lane) {
    const int64_t sum = 255 * s_.taps() * s_.group_channels();
    most = std::max(most, sum * std::abs(multiplier_[lane]) + std::abs(bias_[lane]));
  }
  if (epilogue_.residual != nullptr) {
    most += 128 * std::abs(int64_t{epilogue_.residual_multiplier});
  }
  return most >> (31 + epilogue_.shift) == 0;
}

// Cycles of a row of one part: PSADBW takes lanes * group bytes.
int64_t Int8Pass::Cost() const {
  const int64_t bytes = s_.output_width * layout_.filter_bytes() / parts_;
  return bytes / (tiles_.lanes * tiles_.group) + s_.output_width * s_.outputs / parts_;
}

// Items are the rows of the output, once for every part of the panels.
void Int8Pass::Compute(const ParallelFor& parallel_for) {
  const int64_t rows = s_.batch * s_.output_height;
  parallel_for(rows * parts_, Cost(), [&](int64_t first, int64_t last) {
    const int64_t most = std::clamp<int64_t>(last - first, 1, strips_.rows());
    const Buffer<uint8_t> strip(strips_.bytes(most));
    while (first < last) {
      const int64_t part = first / rows, row = first % rows % s_.output_height;
      const int64_t count = std::min({most, last - first, s_.output_height - row});
      ComputeRows(first % rows / s_.output_height, row, count, part, strip.get());
      first += count;
    }
  });
}

void Int8Pass::ComputeRows(int64_t image, int64_t row, int64_t rows, int64_t part,
                           uint8_t* strip) const {
  strips_.Copy(x_ + image * s_.height * s_.width * s_.channels, row, rows, strip);
  const int64_t pixel = (image * s_.output_height + row) * s_.output_width;
  const int64_t panels = layout_.panels().size();
  for (int64_t i = panels * part / parts_; i < panels * (part + 1) / parts_; ++i) {
    RunPanel(layout_.panels()[i], strip, pixel, rows * s_.output_width);
  }
}

void Int8Pass::RunPanel(const Int8Panel& panel, const uint8_t* strip, int64_t pixel,
                        int64_t pixels) const {
  const int64_t output = panel.group * s_.group_outputs() + panel.first;
  const int64_t place = pixel * s_.outputs + output;
  Int8Job job = {};
  job.a = strip + (layout_.depthwise() ? output : panel.group * layout_.group_bytes());
  job.columns = s_.output_width;
  job.column_step = s_.stride_width * layout_.pixel_bytes();
  job.row_step = s_.stride_height * strips_.row_bytes();
  job.panel = filters_.bytes.get() + panel.offset;
  job.runs = runs_.data();
  job.run_count = runs_.size();
  job.pixels = pixels;
  job.multiplier = multiplier_.data() + panel.lane;
  job.bias = bias_.data() + panel.lane;
  job.residual_multiplier = epilogue_.residual_multiplier;
  job.shift = epilogue_.shift;
  job.low = epilogue_.low;
  job.high = epilogue_.high;
  job.fits_int32 = fits_int32_;
  job.residual = epilogue_.residual == nullptr ? nullptr : epilogue_.residual + place;
  job.y = y_ + place;
  job.outputs = s_.outputs;
  job.width = panel.width;
  if (layout_.depthwise()) {
    tiles_.depthwise(job);
  } else {
    tiles_.forward[panel.kernel](job);
  }
}

}  // namespace

PackedFiltersInt8 PackFiltersInt8(const AdderShape& shape, const int8_t* filters) {
  const Int8Tiles& tiles = SelectInt8Tiles();
  const Int8Layout layout(shape, tiles);
  PackedFiltersInt8 packed = {&tiles, Buffer<uint8_t>(layout.filter_bytes())};
  layout.Pack(filters, packed.bytes.get());
  return packed;
}

void AdderForwardInt8(const AdderShape& shape, const int8_t* x, const PackedFiltersInt8& filters,
                      int32_t zero, const Int8Epilogue& epilogue, int8_t* y,
                      const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  Int8Pass(shape, x, filters, zero, epilogue, y).Compute(parallel_for);
}

}  // namespace pkkd
