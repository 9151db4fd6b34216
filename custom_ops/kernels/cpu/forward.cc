// Y[n,p,q,o] = -sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
//
// The filters are packed into panels of one or two vectors of outputs. An item of work is a strip
// of output rows of one image: the pixels it sees are copied, padded, as float32 into a buffer of
// second-level cache size; then panels x tiles of pixels run over it without a bounds check.
#include <algorithm>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {
namespace {

constexpr int64_t kMaxTilePixels = 16;

class ForwardPass {
 public:
  ForwardPass(const AdderShape& shape, DataType type, const void* x, const void* filters, void* y);
  void Compute(const ParallelFor& parallel_for);

 private:
  struct Scratch {
    Buffer<float> strip, out;
    Buffer<int64_t> a_offset, y_offset, scratch_offset;
  };

  int64_t rows_of_filters() const { return s_.taps() * s_.group_channels(); }
  int64_t max_pixels() const { return strip_rows_ * s_.output_width + kMaxTilePixels; }
  void PackPanel(int64_t index);
  Window WindowOf(int64_t first_row, int64_t last_row) const;
  void MakeRuns();
  void SetOffsets(int64_t pixels, const Scratch& scratch) const;
  void Strip(int64_t item, const Scratch& scratch) const;
  void PanelOverStrip(int64_t group, const Panel& panel, const float* a, int64_t first_pixel,
                      int64_t pixels, const Scratch& scratch) const;

  const AdderShape s_;
  const DataType type_;
  const void* const x_;
  const void* const filters_;
  void* const y_;
  const Tiles& tiles_;
  const std::vector<Panel> panels_;
  const int64_t group_size_;  // packed floats of a group
  const Buffer<float> packed_;
  bool in_place_;  // x is read where it lies: float32, and no window reaches over an edge
  int64_t row_stride_, strip_rows_, strips_;
  std::vector<Run> runs_;
};

int64_t PackedSize(const std::vector<Panel>& panels, int64_t rows, int64_t lanes) {
  return panels.back().offset + rows * panels.back().vectors * lanes;
}

ForwardPass::ForwardPass(const AdderShape& shape, DataType type, const void* x,
                         const void* filters, void* y)
    : s_(Flattened(shape)),
      type_(type),
      x_(x),
      filters_(filters),
      y_(y),
      tiles_(SelectTiles()),
      panels_(MakePanels(s_.group_outputs(), rows_of_filters(), tiles_.lanes)),
      group_size_(PackedSize(panels_, rows_of_filters(), tiles_.lanes)),
      packed_(s_.groups * group_size_) {
  const Window whole = WindowOf(0, s_.output_height);
  in_place_ = type == DataType::kFloat32 && whole.IsInside(s_.height, s_.width);
  row_stride_ = (in_place_ ? s_.width : whole.columns) * s_.channels;
  strip_rows_ = StripRows(s_.batch, s_.output_height, s_.output_width,
                          row_stride_ * s_.stride_height);
  strips_ = CeilDiv(s_.output_height, strip_rows_);
  MakeRuns();
}

void ForwardPass::Compute(const ParallelFor& parallel_for) {
  const int64_t panels = s_.groups * panels_.size();
  parallel_for(panels, rows_of_filters() * 2 * tiles_.lanes, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) PackPanel(index);
  });
  const int64_t operations =
      strip_rows_ * s_.output_width * s_.outputs * s_.taps() * s_.group_channels();
  parallel_for(s_.batch * strips_, operations / tiles_.lanes, [&](int64_t first, int64_t last) {
    const Window window = WindowOf(0, strip_rows_);
    const Scratch scratch{Buffer<float>(in_place_ ? 0 : window.rows * row_stride_),
                          Buffer<float>(max_pixels() * 2 * tiles_.lanes),
                          Buffer<int64_t>(max_pixels()), Buffer<int64_t>(max_pixels()),
                          Buffer<int64_t>(max_pixels())};
    for (int64_t item = first; item < last; ++item) Strip(item, scratch);
  });
}

void ForwardPass::PackPanel(int64_t index) {
  const int64_t group = index / panels_.size();
  const Panel& panel = panels_[index % panels_.size()];
  const int64_t lanes = panel.vectors * tiles_.lanes;
  float* out = packed_.get() + group * group_size_ + panel.offset;
  for (int64_t row = 0; row < rows_of_filters(); ++row, out += lanes) {
    const int64_t element = row * s_.outputs + group * s_.group_outputs() + panel.first;
    tiles_.to_float(type_, At(type_, filters_, element), panel.width, out);
    std::fill(out + panel.width, out + lanes, 0.0f);
  }
}

Window ForwardPass::WindowOf(int64_t first_row, int64_t last_row) const {
  const int64_t rows = last_row - first_row;
  return {first_row * s_.stride_height - s_.pad_top,
          (rows - 1) * s_.stride_height + (s_.kernel_height - 1) * s_.dilation_height + 1,
          -s_.pad_left,
          (s_.output_width - 1) * s_.stride_width + (s_.kernel_width - 1) * s_.dilation_width + 1};
}

void ForwardPass::MakeRuns() {
  for (int64_t i = 0; i < s_.kernel_height; ++i) {
    for (int64_t j = 0; j < s_.kernel_width; ++j) {
      const int64_t a = i * s_.dilation_height * row_stride_ + j * s_.dilation_width * s_.channels;
      const int64_t b = (i * s_.kernel_width + j) * s_.group_channels();
      AppendRun(a, b, s_.group_channels(), &runs_);
    }
  }
  FinishRuns(&runs_);
}

// The last tile may be ragged: its missing pixels are the last one again.
void ForwardPass::SetOffsets(int64_t pixels, const Scratch& scratch) const {
  for (int64_t index = 0; index < pixels + kMaxTilePixels; ++index) {
    const int64_t pixel = std::min(index, pixels - 1);
    const int64_t row = pixel / s_.output_width, column = pixel % s_.output_width;
    scratch.a_offset[index] = row * s_.stride_height * row_stride_ +
                              column * s_.stride_width * s_.channels;
    scratch.y_offset[index] = pixel * s_.outputs;
    scratch.scratch_offset[index] = pixel * 2 * tiles_.lanes;
  }
}

void ForwardPass::Strip(int64_t item, const Scratch& scratch) const {
  const int64_t image = item / strips_, first_row = item % strips_ * strip_rows_;
  const int64_t last_row = std::min(first_row + strip_rows_, s_.output_height);
  const Window window = WindowOf(first_row, last_row);
  const int64_t image_start = image * s_.height * s_.width * s_.channels;
  const float* a = scratch.strip.get();
  if (in_place_) {
    a = static_cast<const float*>(x_) + image_start + window.first_row * row_stride_;
  } else {
    CopyWindow(tiles_, type_, At(type_, x_, image_start), s_.height, s_.width, s_.channels,
               window, scratch.strip.get());
  }
  const int64_t pixels = (last_row - first_row) * s_.output_width;
  const int64_t first_pixel = (image * s_.output_height + first_row) * s_.output_width;
  SetOffsets(pixels, scratch);
  for (int64_t group = 0; group < s_.groups; ++group) {
    for (const Panel& panel : panels_) {
      PanelOverStrip(group, panel, a, first_pixel, pixels, scratch);
    }
  }
}

void ForwardPass::PanelOverStrip(int64_t group, const Panel& panel, const float* a,
                                 int64_t first_pixel, int64_t pixels,
                                 const Scratch& scratch) const {
  const int64_t lanes = panel.vectors * tiles_.lanes;
  const bool direct = type_ == DataType::kFloat32 && panel.width == lanes;
  void* y = At(type_, y_,
               first_pixel * s_.outputs + group * s_.group_outputs() + panel.first);
  const int64_t tile = tiles_.forward_pixels[panel.vectors - 1];
  PanelJob job = {};
  job.a = a + group * s_.group_channels();
  job.a_offset = scratch.a_offset.get();
  job.panel = packed_.get() + group * group_size_ + panel.offset;
  job.runs = runs_.data();
  job.run_count = runs_.size();
  job.out = direct ? static_cast<float*>(y) : scratch.out.get();
  job.out_offset = direct ? scratch.y_offset.get() : scratch.scratch_offset.get();
  job.pixels = CeilDiv(pixels, tile) * tile;
  tiles_.forward[panel.vectors - 1](job);
  for (int64_t pixel = 0; pixel < pixels && !direct; ++pixel) {
    tiles_.from_float(type_, scratch.out.get() + scratch.scratch_offset[pixel], panel.width,
                      At(type_, y, scratch.y_offset[pixel]));
  }
}

}  // namespace

void AdderForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                  void* y, const ParallelFor& parallel_for) {
  if (shape.batch * shape.output_height * shape.output_width == 0) return;
  ForwardPass(shape, type, x, filters, y).Compute(parallel_for);
}

}  // namespace pkkd
