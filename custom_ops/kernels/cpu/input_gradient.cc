// dX[n,h,w,c] = sum_{i,j,o} HT(F[i,j,c,o] - X[n,h,w,c]) * G[n,p,q,o]
//
// A gather: every element of dX is one sum over the taps that reach its pixel. Pixels of one phase
// (h mod stride, w mod stride) are reached by the same taps, and their outputs p, q move by one
// from pixel to pixel; so a stride needs no zeros in between. An item of work is a strip of image
// rows: the gradients that reach it are copied, zero beyond the edges, into a float32 buffer.
#include <algorithm>
#include <cstring>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/reference.h"

namespace pkkd {
namespace {

constexpr int64_t kMaxTilePixels = 16;

struct Phase {
  int64_t row, column;  // h mod stride_height, w mod stride_width
  std::vector<Run> runs;
};

class InputGradientPass {
 public:
  InputGradientPass(const AdderShape& shape, DataType type, Slope slope, const void* x,
                    const void* filters, const void* gradient, void* dx);
  void Compute(const ParallelFor& parallel_for);

 private:
  struct Scratch {
    Buffer<float> strip, x, out;
    Buffer<int64_t> a_offset, x_offset, scratch_offset;
  };
  struct Strip {
    int64_t image, first_row, last_row;
    Window gradients;
    const float* a;
  };

  int64_t rows_of_filters() const { return s_.taps() * s_.group_outputs(); }
  int64_t max_pixels() const { return strip_rows_ * s_.width + kMaxTilePixels; }
  Window GradientsOf(int64_t first_row, int64_t last_row) const;
  void MakePhases();
  void PackPanel(int64_t index);
  bool IsFinite(const Strip& strip) const;
  void ComputeStrip(int64_t item, const Scratch& scratch) const;
  int64_t SetOffsets(const Phase& phase, const Strip& strip, const Scratch& scratch) const;
  void PanelOverPhase(int64_t group, const Panel& panel, const Phase& phase, const Strip& strip,
                      int64_t pixels, const Scratch& scratch) const;

  const AdderShape s_;
  const DataType type_;
  const Slope slope_;
  const void* const x_;
  const void* const filters_;
  const void* const gradient_;
  void* const dx_;
  const Tiles& tiles_;
  const std::vector<Panel> panels_;
  const int64_t group_size_;  // packed floats of a group
  const Buffer<float> packed_;
  bool in_place_;  // gradients are read where they lie
  bool filters_finite_;
  int64_t row_stride_, strip_rows_, strips_;
  std::vector<Phase> phases_;
  std::vector<int64_t> tap_order_;  // of the packed filters, for each tap
};

int64_t PackedSize(const std::vector<Panel>& panels, int64_t rows, int64_t lanes) {
  return panels.back().offset + rows * panels.back().vectors * lanes;
}

InputGradientPass::InputGradientPass(const AdderShape& shape, DataType type, Slope slope,
                                     const void* x, const void* filters, const void* gradient,
                                     void* dx)
    : s_(Flattened(shape)),
      type_(type),
      slope_(slope),
      x_(x),
      filters_(filters),
      gradient_(gradient),
      dx_(dx),
      tiles_(SelectTiles()),
      panels_(MakePanels(s_.group_channels(), rows_of_filters(), tiles_.lanes)),
      group_size_(PackedSize(panels_, rows_of_filters(), tiles_.lanes)),
      packed_(s_.groups * group_size_),
      tap_order_(s_.taps()) {
  const Window whole = GradientsOf(0, s_.height);
  in_place_ = type == DataType::kFloat32 && whole.IsInside(s_.output_height, s_.output_width);
  filters_finite_ = AllFinite(type, filters, s_.taps() * s_.group_channels() * s_.outputs);
  row_stride_ = (in_place_ ? s_.output_width : whole.columns) * s_.outputs;
  strip_rows_ = StripRows(s_.batch, s_.height, s_.width, CeilDiv(row_stride_, s_.stride_height));
  strips_ = CeilDiv(s_.height, strip_rows_);
  MakePhases();
}

void InputGradientPass::Compute(const ParallelFor& parallel_for) {
  const int64_t panels = s_.groups * panels_.size();
  parallel_for(panels, rows_of_filters() * 4 * tiles_.lanes, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) PackPanel(index);
  });
  const int64_t operations = strip_rows_ * s_.width * s_.channels * rows_of_filters();
  const int64_t cost = 2 * operations / (tiles_.lanes * s_.stride_height * s_.stride_width);
  parallel_for(s_.batch * strips_, cost, [&](int64_t first, int64_t last) {
    const int64_t panel_floats = max_pixels() * 2 * tiles_.lanes;
    // One row more than the first strip needs: others may begin within a stride.
    const int64_t strip_floats = (GradientsOf(0, strip_rows_).rows + 1) * row_stride_;
    const Scratch scratch{Buffer<float>(in_place_ ? 0 : strip_floats), Buffer<float>(panel_floats),
                          Buffer<float>(panel_floats), Buffer<int64_t>(max_pixels()),
                          Buffer<int64_t>(max_pixels()), Buffer<int64_t>(max_pixels())};
    std::fill(scratch.x.get(), scratch.x.get() + panel_floats, 0.0f);
    for (int64_t item = first; item < last; ++item) ComputeStrip(item, scratch);
  });
}

// Every output whose window may reach the rows, as rows and columns of the gradient.
Window InputGradientPass::GradientsOf(int64_t first_row, int64_t last_row) const {
  const int64_t reach_rows = (s_.kernel_height - 1) * s_.dilation_height;
  const int64_t reach_columns = (s_.kernel_width - 1) * s_.dilation_width;
  const int64_t top = FloorDiv(first_row + s_.pad_top - reach_rows, s_.stride_height);
  const int64_t bottom = FloorDiv(last_row - 1 + s_.pad_top, s_.stride_height);
  const int64_t left = FloorDiv(s_.pad_left - reach_columns, s_.stride_width);
  const int64_t right = FloorDiv(s_.width - 1 + s_.pad_left, s_.stride_width);
  return {top, bottom - top + 1, left, right - left + 1};
}

// Taps backwards: their outputs then go forward, so that neighbouring taps join into one run.
void InputGradientPass::MakePhases() {
  int64_t order = 0;
  for (int64_t row = 0; row < s_.stride_height; ++row) {
    for (int64_t column = 0; column < s_.stride_width; ++column) {
      Phase phase = {row, column, {}};
      for (int64_t tap = s_.taps() - 1; tap >= 0; --tap) {
        const int64_t i = tap / s_.kernel_width, j = tap % s_.kernel_width;
        const int64_t h = row + s_.pad_top - i * s_.dilation_height;
        const int64_t w = column + s_.pad_left - j * s_.dilation_width;
        if (h % s_.stride_height != 0 || w % s_.stride_width != 0) continue;
        const int64_t a = h / s_.stride_height * row_stride_ + w / s_.stride_width * s_.outputs;
        tap_order_[tap] = order++;
        AppendRun(a, tap_order_[tap] * s_.group_outputs(), s_.group_outputs(), &phase.runs);
      }
      FinishRuns(&phase.runs);
      phases_.push_back(std::move(phase));
    }
  }
}

void InputGradientPass::PackPanel(int64_t index) {
  const int64_t group = index / panels_.size(), outputs = s_.group_outputs();
  const Panel& panel = panels_[index % panels_.size()];
  const int64_t lanes = panel.vectors * tiles_.lanes;
  float* packed = packed_.get() + group * group_size_ + panel.offset;
  std::fill(packed, packed + rows_of_filters() * lanes, 0.0f);
  const Buffer<float> row(outputs);
  for (int64_t tap = 0; tap < s_.taps(); ++tap) {
    float* out = packed + tap_order_[tap] * outputs * lanes;
    for (int64_t c = 0; c < panel.width; ++c, ++out) {
      const int64_t channel = tap * s_.group_channels() + panel.first + c;
      tiles_.to_float(type_, At(type_, filters_, channel * s_.outputs + group * outputs), outputs,
                      row.get());
      for (int64_t o = 0; o < outputs; ++o) out[o * lanes] = row[o];
    }
  }
}

bool InputGradientPass::IsFinite(const Strip& strip) const {
  const int64_t first = (strip.image * s_.height + strip.first_row) * s_.width * s_.channels;
  const int64_t count = (strip.last_row - strip.first_row) * s_.width * s_.channels;
  return filters_finite_ && AllFinite(type_, At(type_, x_, first), count);
}

void InputGradientPass::ComputeStrip(int64_t item, const Scratch& scratch) const {
  const int64_t first_row = item % strips_ * strip_rows_;
  const int64_t last_row = std::min(first_row + strip_rows_, s_.height);
  Strip strip = {item / strips_, first_row, last_row, GradientsOf(first_row, last_row), nullptr};
  if (!IsFinite(strip)) {  // HT(NaN) * 0 beyond the edges would be NaN: plain loops
    AdderInputGradientReference(s_, type_, slope_, x_, filters_, gradient_, dx_, strip.image,
                                first_row, last_row);
    return;
  }
  const int64_t image_start = strip.image * s_.output_height * s_.output_width * s_.outputs;
  if (in_place_) {
    strip.a = static_cast<const float*>(gradient_) + image_start +
              strip.gradients.first_row * row_stride_ + strip.gradients.first_column * s_.outputs;
  } else {
    CopyWindow(tiles_, type_, At(type_, gradient_, image_start), s_.output_height,
               s_.output_width, s_.outputs, strip.gradients, scratch.strip.get());
    strip.a = scratch.strip.get();
  }
  for (const Phase& phase : phases_) {
    const int64_t pixels = SetOffsets(phase, strip, scratch);
    if (pixels == 0) continue;
    for (int64_t group = 0; group < s_.groups; ++group) {
      for (const Panel& panel : panels_) {
        PanelOverPhase(group, panel, phase, strip, pixels, scratch);
      }
    }
  }
}

// Returns the number of pixels of the phase in the strip. The last tile may be ragged: its missing
// pixels are the last one again.
int64_t InputGradientPass::SetOffsets(const Phase& phase, const Strip& strip,
                                      const Scratch& scratch) const {
  int64_t pixel = 0;
  const int64_t skip = FloorDiv(strip.first_row - phase.row + s_.stride_height - 1,
                                s_.stride_height);
  for (int64_t p = skip; p * s_.stride_height + phase.row < strip.last_row; ++p) {
    const int64_t h = p * s_.stride_height + phase.row - strip.first_row;
    for (int64_t q = 0; q * s_.stride_width + phase.column < s_.width; ++q, ++pixel) {
      const int64_t w = q * s_.stride_width + phase.column;
      scratch.a_offset[pixel] = (p - strip.gradients.first_row) * row_stride_ +
                                (q - strip.gradients.first_column) * s_.outputs;
      scratch.x_offset[pixel] = (h * s_.width + w) * s_.channels;
      scratch.scratch_offset[pixel] = pixel * 2 * tiles_.lanes;
    }
  }
  for (int64_t missing = 0; missing < kMaxTilePixels && pixel > 0; ++missing) {
    for (const Buffer<int64_t>* offset :
         {&scratch.a_offset, &scratch.x_offset, &scratch.scratch_offset}) {
      (*offset)[pixel + missing] = (*offset)[pixel - 1];
    }
  }
  return pixel;
}

void InputGradientPass::PanelOverPhase(int64_t group, const Panel& panel, const Phase& phase,
                                       const Strip& strip, int64_t pixels,
                                       const Scratch& scratch) const {
  const int64_t lanes = panel.vectors * tiles_.lanes;
  const bool direct = type_ == DataType::kFloat32 && panel.width == lanes;
  const int64_t start = (strip.image * s_.height + strip.first_row) * s_.width * s_.channels +
                        group * s_.group_channels() + panel.first;
  for (int64_t pixel = 0; pixel < pixels && !direct; ++pixel) {
    tiles_.to_float(type_, At(type_, x_, start + scratch.x_offset[pixel]), panel.width,
                    scratch.x.get() + scratch.scratch_offset[pixel]);
  }
  const int64_t tile = tiles_.gradient_pixels[panel.vectors - 1];
  PanelJob job = {};
  job.a = strip.a + group * s_.group_outputs();
  job.a_offset = scratch.a_offset.get();
  job.panel = packed_.get() + group * group_size_ + panel.offset;
  job.runs = phase.runs.data();
  job.run_count = phase.runs.size();
  job.x = direct ? static_cast<const float*>(x_) + start : scratch.x.get();
  job.out = direct ? static_cast<float*>(dx_) + start : scratch.out.get();
  job.out_offset = direct ? scratch.x_offset.get() : scratch.scratch_offset.get();
  job.pixels = CeilDiv(pixels, tile) * tile;
  tiles_.gradient[static_cast<int>(slope_)][panel.vectors - 1](job);
  for (int64_t pixel = 0; pixel < pixels && !direct; ++pixel) {
    tiles_.from_float(type_, scratch.out.get() + scratch.scratch_offset[pixel], panel.width,
                      At(type_, dx_, start + scratch.x_offset[pixel]));
  }
}

}  // namespace

void AdderInputGradient(const AdderShape& shape, DataType type, Slope slope, const void* x,
                        const void* filters, const void* gradient, void* dx,
                        const ParallelFor& parallel_for) {
  if (shape.batch * shape.height * shape.width == 0) return;
  InputGradientPass(shape, type, slope, x, filters, gradient, dx).Compute(parallel_for);
}

}  // namespace pkkd
