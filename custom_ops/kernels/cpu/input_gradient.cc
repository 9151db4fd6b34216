// dX[n,h,w,c] = sum_{i,j,o} HT(F[i,j,c,o] - X[n,h,w,c]) * G[n,p,q,o]
//
// A gather: every element of dX is one sum over the taps that reach its pixel. Pixels of one phase
// (h mod stride, w mod stride) are reached by the same taps, and their outputs p, q move by one
// from pixel to pixel; so a stride needs no zeros in between. An item of work is a strip of image
// rows: the gradients that reach it are copied, zero beyond the edges, into a float32 buffer.
#include <algorithm>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/reference.h"

namespace pkkd {
namespace {

struct Phase {
  int64_t row, column;  // h mod stride_height, w mod stride_width
  std::vector<Run> runs;
  PixelOffsets offsets, last_offsets;  // of a strip, and of an image's last one
};

class InputGradientPass {
 public:
  InputGradientPass(const AdderShape& shape, DataType type, Slope slope, const void* x,
                    const void* filters, const void* gradient, void* dx);
  void Compute(const ParallelFor& parallel_for);

 private:
  struct Scratch {
    Buffer<float> strip, x, out;
  };

  int64_t rows_of_filters() const { return s_.taps() * s_.group_outputs(); }
  Window GradientsOf(int64_t first_row, int64_t last_row) const;
  void MakePhase(int64_t row, int64_t column, int64_t* order);
  PixelOffsets OffsetsOf(const Phase& phase, int64_t rows) const;
  void PackPanel(int64_t group, const Panel& panel) const;
  bool IsFinite(int64_t image, int64_t first_row, int64_t last_row) const;
  void Strip(int64_t item, const Scratch& scratch) const;
  const float* CopyStrip(int64_t image, const Window& window, const Scratch& scratch) const;
  void PanelOverPhase(int64_t group, const Panel& panel, const Phase& phase,
                      const PixelOffsets& offsets, const float* a, int64_t start,
                      const Scratch& scratch) const;

  const AdderShape s_;
  const DataType type_;
  const Slope slope_;
  const void* const x_;
  const void* const filters_;
  const void* const gradient_;
  void* const dx_;
  const Tiles& tiles_;
  const std::vector<Panel> panels_;
  const int64_t group_floats_;  // packed filters of a group
  const Buffer<float> packed_;
  const bool filters_finite_;
  const bool in_place_;  // gradients are read where they lie: float32, none beyond an edge
  const int64_t row_stride_, strip_rows_, strips_;
  std::vector<Phase> phases_;
  std::vector<int64_t> tap_order_;  // of the packed filters, for each tap
};

// Strips begin with a whole stride, so that a phase looks the same in each.
int64_t WholeStrides(int64_t rows, int64_t stride) { return CeilDiv(rows, stride) * stride; }

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
      panels_(MakePanels(tiles_, s_.group_channels(), rows_of_filters())),
      group_floats_(PackedFloats(tiles_, panels_, rows_of_filters())),
      packed_(s_.groups * group_floats_),
      filters_finite_(AllFinite(type, filters, s_.taps() * s_.group_channels() * s_.outputs)),
      in_place_(type == DataType::kFloat32 &&
                GradientsOf(0, s_.height).IsInside(s_.output_height, s_.output_width)),
      row_stride_((in_place_ ? s_.output_width : GradientsOf(0, 1).columns) * s_.outputs),
      strip_rows_(WholeStrides(StripRows(s_.batch, s_.height, s_.width,
                                         CeilDiv(row_stride_, s_.stride_height)),
                               s_.stride_height)),
      strips_(CeilDiv(s_.height, strip_rows_)),
      tap_order_(s_.taps()) {
  int64_t order = 0;
  for (int64_t row = 0; row < s_.stride_height; ++row) {
    for (int64_t column = 0; column < s_.stride_width; ++column) MakePhase(row, column, &order);
  }
}

void InputGradientPass::Compute(const ParallelFor& parallel_for) {
  const int64_t panels = panels_.size();
  parallel_for(s_.groups * panels, rows_of_filters() * 4 * tiles_.lanes,
               [&](int64_t first, int64_t last) {
                 for (int64_t i = first; i < last; ++i) PackPanel(i / panels, panels_[i % panels]);
               });
  const int64_t operations = strip_rows_ * s_.width * s_.channels * rows_of_filters();
  const int64_t cost = 2 * operations / (tiles_.lanes * s_.stride_height * s_.stride_width);
  parallel_for(s_.batch * strips_, cost, [&](int64_t first, int64_t last) {
    int64_t panel_floats = 0;
    for (const Phase& phase : phases_) {
      panel_floats = std::max(panel_floats, phase.offsets.ScratchFloats(tiles_));
    }
    const int64_t strip_floats = in_place_ ? 0 : GradientsOf(0, strip_rows_).rows * row_stride_;
    const Scratch scratch{Buffer<float>(strip_floats), Buffer<float>(panel_floats),
                          Buffer<float>(panel_floats)};
    std::fill(scratch.x.get(), scratch.x.get() + panel_floats, 0.0f);
    for (int64_t item = first; item < last; ++item) Strip(item, scratch);
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
void InputGradientPass::MakePhase(int64_t row, int64_t column, int64_t* order) {
  Phase phase = {row, column, {}, {}, {}};
  for (int64_t tap = s_.taps() - 1; tap >= 0; --tap) {
    const int64_t i = tap / s_.kernel_width, j = tap % s_.kernel_width;
    const int64_t h = row + s_.pad_top - i * s_.dilation_height;
    const int64_t w = column + s_.pad_left - j * s_.dilation_width;
    if (h % s_.stride_height != 0 || w % s_.stride_width != 0) continue;
    const int64_t a = h / s_.stride_height * row_stride_ + w / s_.stride_width * s_.outputs;
    tap_order_[tap] = (*order)++;
    AppendRun(a, tap_order_[tap] * s_.group_outputs(), s_.group_outputs(), &phase.runs);
  }
  FinishRuns(&phase.runs);
  phase.offsets = OffsetsOf(phase, strip_rows_);
  phase.last_offsets = OffsetsOf(phase, s_.height - (strips_ - 1) * strip_rows_);
  phases_.push_back(std::move(phase));
}

PixelOffsets InputGradientPass::OffsetsOf(const Phase& phase, int64_t rows) const {
  const Window gradients = GradientsOf(0, strip_rows_);
  PixelOffsets offsets;
  for (int64_t h = phase.row; h < rows; h += s_.stride_height) {
    const int64_t p = h / s_.stride_height - gradients.first_row;
    for (int64_t w = phase.column; w < s_.width; w += s_.stride_width) {
      const int64_t q = w / s_.stride_width - gradients.first_column;
      offsets.Add(p * row_stride_ + q * s_.outputs, (h * s_.width + w) * s_.channels);
    }
  }
  offsets.Finish(tiles_);
  return offsets;
}

void InputGradientPass::PackPanel(int64_t group, const Panel& panel) const {
  const int64_t lanes = panel.vectors * tiles_.lanes, outputs = s_.group_outputs();
  const Buffer<float> channels(lanes * outputs);
  std::fill(channels.get(), channels.get() + lanes * outputs, 0.0f);
  for (int64_t tap = 0; tap < s_.taps(); ++tap) {
    for (int64_t c = 0; c < panel.width; ++c) {
      const int64_t channel = tap * s_.group_channels() + panel.first + c;
      tiles_.to_float(type_, At(type_, filters_, channel * s_.outputs + group * outputs), outputs,
                      channels.get() + c * outputs);
    }
    float* out = packed_.get() + group * group_floats_ + panel.offset +
                 tap_order_[tap] * outputs * lanes;
    for (int64_t o = 0; o < outputs; ++o, out += lanes) {
      for (int64_t c = 0; c < lanes; ++c) out[c] = channels[c * outputs + o];
    }
  }
}

bool InputGradientPass::IsFinite(int64_t image, int64_t first_row, int64_t last_row) const {
  const int64_t row_pixels = s_.width * s_.channels;
  return filters_finite_ &&
         AllFinite(type_, At(type_, x_, (image * s_.height + first_row) * row_pixels),
                   (last_row - first_row) * row_pixels);
}

void InputGradientPass::Strip(int64_t item, const Scratch& scratch) const {
  const int64_t image = item / strips_, strip = item % strips_, first_row = strip * strip_rows_;
  const int64_t last_row = std::min(first_row + strip_rows_, s_.height);
  if (!IsFinite(image, first_row, last_row)) {  // HT(NaN) * 0 beyond the edges would be NaN
    AdderInputGradientReference(s_, type_, slope_, x_, filters_, gradient_, dx_, image, first_row,
                                last_row);
    return;
  }
  const float* a = CopyStrip(image, GradientsOf(first_row, last_row), scratch);
  const int64_t start = (image * s_.height + first_row) * s_.width * s_.channels;
  for (const Phase& phase : phases_) {
    const PixelOffsets& offsets = strip == strips_ - 1 ? phase.last_offsets : phase.offsets;
    for (int64_t group = 0; group < s_.groups && offsets.pixels() > 0; ++group) {
      for (const Panel& panel : panels_) {
        PanelOverPhase(group, panel, phase, offsets, a + group * s_.group_outputs(),
                       start + group * s_.group_channels() + panel.first, scratch);
      }
    }
  }
}

// Returns where the window's first gradient is.
const float* InputGradientPass::CopyStrip(int64_t image, const Window& window,
                                          const Scratch& scratch) const {
  const int64_t image_start = image * s_.output_height * s_.output_width * s_.outputs;
  if (in_place_) {
    return static_cast<const float*>(gradient_) + image_start + window.first_row * row_stride_ +
           window.first_column * s_.outputs;
  }
  CopyWindow(tiles_, type_, At(type_, gradient_, image_start), s_.output_height, s_.output_width,
             s_.outputs, window, scratch.strip.get());
  return scratch.strip.get();
}

void InputGradientPass::PanelOverPhase(int64_t group, const Panel& panel, const Phase& phase,
                                       const PixelOffsets& offsets, const float* a, int64_t start,
                                       const Scratch& scratch) const {
  const bool direct = type_ == DataType::kFloat32 && panel.width == panel.vectors * tiles_.lanes;
  for (int64_t pixel = 0; pixel < offsets.pixels() && !direct; ++pixel) {
    tiles_.to_float(type_, At(type_, x_, start + offsets.tensor()[pixel]), panel.width,
                    scratch.x.get() + offsets.scratch()[pixel]);
  }
  const int64_t tile = tiles_.gradient_pixels[panel.vectors - 1];
  PanelJob job = {};
  job.a = a;
  job.a_offset = offsets.a();
  job.panel = packed_.get() + group * group_floats_ + panel.offset;
  job.runs = phase.runs.data();
  job.run_count = phase.runs.size();
  job.x = direct ? static_cast<const float*>(x_) + start : scratch.x.get();
  job.out = direct ? static_cast<float*>(dx_) + start : scratch.out.get();
  job.out_offset = direct ? offsets.tensor() : offsets.scratch();
  job.pixels = CeilDiv(offsets.pixels(), tile) * tile;
  tiles_.gradient[static_cast<int>(slope_)][panel.vectors - 1](job);
  for (int64_t pixel = 0; pixel < offsets.pixels() && !direct; ++pixel) {
    tiles_.from_float(type_, scratch.out.get() + offsets.scratch()[pixel], panel.width,
                      At(type_, dx_, start + offsets.tensor()[pixel]));
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
