// dX[n,h,w,c] = sum_{i,j,o} HT(F[i,j,c,o] - X[n,h,w,c]) * G[n,p,q,o]
//
// A gather: every element of dX is one sum over the taps that reach its pixel. Pixels of one phase
// (h mod stride, w mod stride) are reached by the same taps, and their outputs p, q move by one
// from pixel to pixel; so a stride needs no zeros in between. The gradients that reach a strip of
// image rows are copied, zero beyond the edges, into a float32 buffer.
#include <algorithm>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/depthwise.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/reference.h"
#include "custom_ops/kernels/cpu/strips.h"

namespace pkkd {
namespace {

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
  void PackPanel(int64_t group, const Panel& panel) const;
  void ComputeStrip(const Strip& strip, const Scratch& scratch) const;
  const float* CopyStrip(const Strip& strip, const Scratch& scratch) const;
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
  const GradientStrips strips_;
};

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
      in_place_(type == DataType::kFloat32 && GradientStrips::WindowOf(s_, 0, s_.height)
                                                  .IsInside(s_.output_height, s_.output_width)),
      strips_(s_, {s_.outputs, s_.group_outputs(), tiles_.max_vectors * tiles_.lanes, in_place_}) {
}

void InputGradientPass::Compute(const ParallelFor& parallel_for) {
  const int64_t panels = panels_.size();
  parallel_for(s_.groups * panels, rows_of_filters() * 4 * tiles_.lanes,
               [&](int64_t first, int64_t last) {
                 for (int64_t i = first; i < last; ++i) PackPanel(i / panels, panels_[i % panels]);
               });
  const int64_t operations = strips_.rows() * s_.width * s_.channels * rows_of_filters();
  const int64_t cost = 2 * operations / (tiles_.lanes * s_.stride_height * s_.stride_width);
  parallel_for(strips_.items(), cost, [&](int64_t first, int64_t last) {
    const int64_t floats = strips_.scratch_floats();
    const Scratch scratch{Buffer<float>(strips_.buffer_floats()), Buffer<float>(floats),
                          Buffer<float>(floats)};
    std::fill(scratch.x.get(), scratch.x.get() + floats, 0.0f);
    for (int64_t item = first; item < last; ++item) ComputeStrip(strips_.At(item), scratch);
  });
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
                 strips_.OrderOf(tap) * outputs * lanes;
    for (int64_t o = 0; o < outputs; ++o, out += lanes) {
      for (int64_t c = 0; c < lanes; ++c) out[c] = channels[c * outputs + o];
    }
  }
}

void InputGradientPass::ComputeStrip(const Strip& strip, const Scratch& scratch) const {
  const int64_t start = (strip.image * s_.height + strip.first_row) * s_.width * s_.channels;
  const int64_t count = (strip.end_row - strip.first_row) * s_.width * s_.channels;
  if (!filters_finite_ || !AllFinite(type_, At(type_, x_, start), count)) {
    // HT(NaN) * 0 beyond the edges would be NaN.
    AdderInputGradientReference(s_, type_, slope_, x_, filters_, gradient_, dx_, strip.image,
                                strip.first_row, strip.end_row);
    return;
  }
  const float* a = CopyStrip(strip, scratch);
  for (const Phase& phase : strips_.phases()) {
    const PixelOffsets& offsets = phase.OffsetsOf(strip);
    for (int64_t group = 0; group < s_.groups && offsets.pixels() > 0; ++group) {
      for (const Panel& panel : panels_) {
        PanelOverPhase(group, panel, phase, offsets, a + group * s_.group_outputs(),
                       start + group * s_.group_channels() + panel.first, scratch);
      }
    }
  }
}

// Returns where the strip's first gradient is.
const float* InputGradientPass::CopyStrip(const Strip& strip, const Scratch& scratch) const {
  const Window window = strips_.WindowOf(strip);
  const int64_t image_start = strip.image * s_.output_height * s_.output_width * s_.outputs;
  if (in_place_) {
    return static_cast<const float*>(gradient_) + image_start +
           window.first_row * strips_.row_stride() + window.first_column * s_.outputs;
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
  if (IsDepthwise(shape)) {
    DepthwiseInputGradient(shape, type, slope, x, filters, gradient, dx, parallel_for);
  } else {
    InputGradientPass(shape, type, slope, x, filters, gradient, dx).Compute(parallel_for);
  }
}

}  // namespace pkkd
