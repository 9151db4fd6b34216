#include "custom_ops/kernels/cpu/depthwise.h"

#include <algorithm>

#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/reference.h"
#include "custom_ops/kernels/cpu/strips.h"

namespace pkkd {
namespace {

// Pixels of `channels` become pixels of `padded` floats: each channel `copies` times, then zeros.
void Widen(const float* in, int64_t pixels, int64_t channels, int64_t copies, int64_t padded,
           float* out) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, out += padded) {
    float* next = out;
    for (int64_t c = 0; c < channels; ++c, ++in) next = std::fill_n(next, copies, *in);
    std::fill(next, out + padded, 0.0f);
  }
}

// Both passes: the filters as (taps, padded) and the buffers of a strip.
class Depthwise {
 public:
  Depthwise(const AdderShape& shape, DataType type)
      : s_(shape),
        type_(type),
        tiles_(SelectTiles()),
        padded_(CeilDiv(shape.outputs, tiles_.lanes) * tiles_.lanes),
        filters_(shape.taps() * padded_) {}

 protected:
  void PackTap(const void* filters, int64_t tap, int64_t place) {
    float* out = filters_.get() + place * padded_;
    tiles_.to_float(type_, At(type_, filters, tap * s_.outputs), s_.outputs, out);
    std::fill(out + s_.outputs, out + padded_, 0.0f);
  }

  // Rows of vectors can be read and written in a tensor of that many channels.
  bool Fits(int64_t channels) const { return type_ == DataType::kFloat32 && channels == padded_; }

  // A window of `tensor` (images, height, width, channels) as pixels of `padded_` floats, in
  // `wide`, by way of `narrow`.
  void CopyWide(const void* tensor, int64_t image, int64_t height, int64_t width, int64_t channels,
                const Window& window, float* narrow, float* wide) const {
    const void* from = At(type_, tensor, image * height * width * channels);
    float* copy = channels == padded_ ? wide : narrow;
    CopyWindow(tiles_, type_, from, height, width, channels, window, copy);
    if (copy == wide) return;
    Widen(copy, window.rows * window.columns, channels, s_.outputs / channels, padded_, wide);
  }

  PanelJob MakeJob(const float* a, const PixelOffsets& offsets,
                   const std::vector<Run>& runs) const {
    PanelJob job = {};
    job.a = a;
    job.a_offset = offsets.a();
    job.panel = filters_.get();
    job.runs = runs.data();
    job.run_count = runs.size();
    job.pixels = CeilDiv(offsets.pixels(), tiles_.depthwise_pixels) * tiles_.depthwise_pixels;
    job.channels = padded_;
    return job;
  }

  const AdderShape s_;
  const DataType type_;
  const Tiles& tiles_;
  const int64_t padded_;  // outputs, rounded up to whole vectors
  const Buffer<float> filters_;
};

class ForwardPass : Depthwise {
 public:
  ForwardPass(const AdderShape& shape, DataType type, const void* x, const void* filters, void* y)
      : Depthwise(shape, type), x_(x), y_(y), strips_(shape, {padded_, 1, padded_, false}) {
    for (int64_t tap = 0; tap < s_.taps(); ++tap) PackTap(filters, tap, tap);
  }

  void Compute(const ParallelFor& parallel_for) {
    const int64_t cost = 2 * strips_.max_pixels() * s_.taps() * padded_ / tiles_.lanes;
    parallel_for(strips_.items(), cost, [&](int64_t first, int64_t last) {
      const Buffer<float> narrow(strips_.buffer_floats()), wide(strips_.buffer_floats());
      const Buffer<float> out(strips_.scratch_floats());
      for (int64_t item = first; item < last; ++item) {
        const Strip strip = strips_.At(item);
        CopyWide(x_, strip.image, s_.height, s_.width, s_.channels, strips_.WindowOf(strip),
                 narrow.get(), wide.get());
        ComputeStrip(strip, wide.get(), out.get());
      }
    });
  }

 private:
  void ComputeStrip(const Strip& strip, const float* a, float* out) const {
    const PixelOffsets& offsets = strips_.OffsetsOf(strip);
    const int64_t row = strip.image * s_.output_height + strip.first_row;
    void* y = At(type_, y_, row * s_.output_width * s_.outputs);
    const bool direct = Fits(s_.outputs);
    PanelJob job = MakeJob(a, offsets, strips_.runs());
    job.out = direct ? static_cast<float*>(y) : out;
    job.out_offset = direct ? offsets.tensor() : offsets.scratch();
    tiles_.depthwise_forward(job);
    for (int64_t pixel = 0; pixel < offsets.pixels() && !direct; ++pixel) {
      tiles_.from_float(type_, out + offsets.scratch()[pixel], s_.outputs,
                        At(type_, y, offsets.tensor()[pixel]));
    }
  }

  const void* const x_;
  void* const y_;
  const ForwardStrips strips_;
};

class InputGradientPass : Depthwise {
 public:
  InputGradientPass(const AdderShape& shape, DataType type, Slope slope, const void* x,
                    const void* filters, const void* gradient, void* dx)
      : Depthwise(shape, type),
        slope_(slope),
        x_(x),
        raw_filters_(filters),
        gradient_(gradient),
        dx_(dx),
        filters_finite_(AllFinite(type, filters, shape.taps() * shape.outputs)),
        strips_(shape, {padded_, 1, padded_, false}) {
    for (int64_t tap = 0; tap < s_.taps(); ++tap) PackTap(filters, tap, strips_.OrderOf(tap));
  }

  void Compute(const ParallelFor& parallel_for) {
    const int64_t cost = 3 * strips_.rows() * s_.width * s_.taps() * padded_ / tiles_.lanes;
    parallel_for(strips_.items(), cost, [&](int64_t first, int64_t last) {
      const Scratch scratch{
          Buffer<float>(strips_.buffer_floats()), Buffer<float>(strips_.buffer_floats()),
          Buffer<float>(strips_.scratch_floats()), Buffer<float>(strips_.scratch_floats()),
          Buffer<float>(s_.channels)};
      for (int64_t item = first; item < last; ++item) ComputeStrip(strips_.At(item), scratch);
    });
  }

 private:
  struct Scratch {
    Buffer<float> narrow, wide, x, out, pixel;
  };

  void ComputeStrip(const Strip& strip, const Scratch& scratch) const {
    const int64_t start = (strip.image * s_.height + strip.first_row) * s_.width * s_.channels;
    const int64_t count = (strip.end_row - strip.first_row) * s_.width * s_.channels;
    if (!filters_finite_ || !AllFinite(type_, At(type_, x_, start), count)) {
      // HT(NaN) * 0 beyond the edges would be NaN.
      AdderInputGradientReference(s_, type_, slope_, x_, raw_filters_, gradient_, dx_, strip.image,
                                  strip.first_row, strip.end_row);
      return;
    }
    CopyWide(gradient_, strip.image, s_.output_height, s_.output_width, s_.outputs,
             strips_.WindowOf(strip), scratch.narrow.get(), scratch.wide.get());
    for (const Phase& phase : strips_.phases()) ComputePhase(phase, strip, start, scratch);
  }

  void ComputePhase(const Phase& phase, const Strip& strip, int64_t start,
                    const Scratch& scratch) const {
    const PixelOffsets& offsets = phase.OffsetsOf(strip);
    if (offsets.pixels() == 0) return;
    const bool direct = Fits(s_.channels);
    PanelJob job = MakeJob(scratch.wide.get(), offsets, phase.runs);
    job.x = direct ? static_cast<const float*>(x_) + start : scratch.x.get();
    job.out = direct ? static_cast<float*>(dx_) + start : scratch.out.get();
    job.out_offset = direct ? offsets.tensor() : offsets.scratch();
    if (!direct) LoadX(offsets, start, scratch);
    tiles_.depthwise_gradient[static_cast<int>(slope_)](job);
    if (!direct) StoreDx(offsets, start, scratch);
  }

  void LoadX(const PixelOffsets& offsets, int64_t start, const Scratch& scratch) const {
    const int64_t copies = s_.group_outputs();
    for (int64_t pixel = 0; pixel < offsets.pixels(); ++pixel) {
      tiles_.to_float(type_, At(type_, x_, start + offsets.tensor()[pixel]), s_.channels,
                      scratch.pixel.get());
      Widen(scratch.pixel.get(), 1, s_.channels, copies, padded_,
            scratch.x.get() + offsets.scratch()[pixel]);
    }
  }

  // Sums over the outputs of each channel.
  void StoreDx(const PixelOffsets& offsets, int64_t start, const Scratch& scratch) const {
    for (int64_t pixel = 0; pixel < offsets.pixels(); ++pixel) {
      const float* out = scratch.out.get() + offsets.scratch()[pixel];
      for (int64_t c = 0; c < s_.channels; ++c) {
        float sum = 0;
        for (int64_t copy = 0; copy < s_.group_outputs(); ++copy) sum += *out++;
        scratch.pixel[c] = sum;
      }
      tiles_.from_float(type_, scratch.pixel.get(), s_.channels,
                        At(type_, dx_, start + offsets.tensor()[pixel]));
    }
  }

  const Slope slope_;
  const void* const x_;
  const void* const raw_filters_;
  const void* const gradient_;
  void* const dx_;
  const bool filters_finite_;
  const GradientStrips strips_;
};

}  // namespace

void DepthwiseForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                      void* y, const ParallelFor& parallel_for) {
  ForwardPass(shape, type, x, filters, y).Compute(parallel_for);
}

void DepthwiseInputGradient(const AdderShape& shape, DataType type, Slope slope, const void* x,
                            const void* filters, const void* gradient, void* dx,
                            const ParallelFor& parallel_for) {
  InputGradientPass(shape, type, slope, x, filters, gradient, dx).Compute(parallel_for);
}

}  // namespace pkkd
