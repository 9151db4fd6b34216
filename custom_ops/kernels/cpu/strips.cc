#include "custom_ops/kernels/cpu/strips.h"

#include <algorithm>

namespace pkkd {
namespace {

constexpr int64_t kStripFloats = 64 * 1024;  // 256 KiB: stays in the second-level cache
constexpr int64_t kMinPixels = 32;
constexpr int64_t kWantedItems = 16;

// Rows at a time: as many as keep the strip in the cache and leave some work for every thread.
int64_t StripRows(int64_t images, int64_t rows, int64_t columns, int64_t row_floats) {
  int64_t strip = std::clamp<int64_t>(kStripFloats / row_floats, 1, rows);
  while (strip > 1 && images * CeilDiv(rows, strip) < kWantedItems &&
         strip * columns > kMinPixels) {
    strip = CeilDiv(strip, 2);
  }
  return strip;
}

// Strips begin with a whole stride, so that a phase looks the same in each.
int64_t GradientRows(const AdderShape& s, int64_t row_stride) {
  const int64_t rows = StripRows(s.batch, s.height, s.width,
                                 CeilDiv(row_stride, s.stride_height));
  return CeilDiv(rows, s.stride_height) * s.stride_height;
}

Strip StripAt(int64_t item, int64_t per_image, int64_t rows, int64_t image_rows) {
  const int64_t strip = item % per_image, first = strip * rows;
  return {item / per_image, first, std::min(first + rows, image_rows), strip == per_image - 1};
}

}  // namespace

ForwardStrips::ForwardStrips(const AdderShape& shape, const Source& source)
    : shape_(shape),
      source_(source),
      row_stride_((source.in_place ? shape.width : WindowOf(shape, 0, 1).columns) *
                  source.pixel_floats),
      rows_(StripRows(shape.batch, shape.output_height, shape.output_width,
                      row_stride_ * shape.stride_height)),
      per_image_(CeilDiv(shape.output_height, rows_)),
      offsets_(MakeOffsets(rows_)),
      last_offsets_(MakeOffsets(shape.output_height - (per_image_ - 1) * rows_)) {
  for (int64_t tap = 0; tap < shape.taps(); ++tap) {
    const int64_t i = tap / shape.kernel_width, j = tap % shape.kernel_width;
    const int64_t a = i * shape.dilation_height * row_stride_ +
                      j * shape.dilation_width * source.pixel_floats;
    AppendRun(a, tap * source.tap_terms, source.tap_terms, &runs_);
  }
  FinishRuns(&runs_);
}

Window ForwardStrips::WindowOf(const AdderShape& s, int64_t first_row, int64_t end_row) {
  return {first_row * s.stride_height - s.pad_top,
          (end_row - first_row - 1) * s.stride_height +
              (s.kernel_height - 1) * s.dilation_height + 1,
          -s.pad_left,
          (s.output_width - 1) * s.stride_width + (s.kernel_width - 1) * s.dilation_width + 1};
}

Strip ForwardStrips::At(int64_t item) const {
  return StripAt(item, per_image_, rows_, shape_.output_height);
}

int64_t ForwardStrips::buffer_floats() const {
  return source_.in_place ? 0 : WindowOf(shape_, 0, rows_).rows * row_stride_;
}

PixelOffsets ForwardStrips::MakeOffsets(int64_t rows) const {
  PixelOffsets offsets;
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t q = 0; q < shape_.output_width; ++q) {
      offsets.Add(p * shape_.stride_height * row_stride_ +
                      q * shape_.stride_width * source_.pixel_floats,
                  (p * shape_.output_width + q) * shape_.outputs);
    }
  }
  offsets.Finish(source_.scratch_floats);
  return offsets;
}

GradientStrips::GradientStrips(const AdderShape& shape, const Source& source)
    : shape_(shape),
      source_(source),
      row_stride_((source.in_place ? shape.output_width : WindowOf(shape, 0, 1).columns) *
                  source.pixel_floats),
      rows_(GradientRows(shape, row_stride_)),
      per_image_(CeilDiv(shape.height, rows_)),
      order_(shape.taps()) {
  int64_t order = 0;
  for (int64_t row = 0; row < shape.stride_height; ++row) {
    for (int64_t column = 0; column < shape.stride_width; ++column) {
      phases_.push_back(MakePhase(row, column, &order));
    }
  }
}

// Every output whose window may reach the rows.
Window GradientStrips::WindowOf(const AdderShape& s, int64_t first_row, int64_t end_row) {
  const int64_t reach_rows = (s.kernel_height - 1) * s.dilation_height;
  const int64_t reach_columns = (s.kernel_width - 1) * s.dilation_width;
  const int64_t top = FloorDiv(first_row + s.pad_top - reach_rows, s.stride_height);
  const int64_t bottom = FloorDiv(end_row - 1 + s.pad_top, s.stride_height);
  const int64_t left = FloorDiv(s.pad_left - reach_columns, s.stride_width);
  const int64_t right = FloorDiv(s.width - 1 + s.pad_left, s.stride_width);
  return {top, bottom - top + 1, left, right - left + 1};
}

Strip GradientStrips::At(int64_t item) const {
  return StripAt(item, per_image_, rows_, shape_.height);
}

int64_t GradientStrips::buffer_floats() const {
  return source_.in_place ? 0 : WindowOf(shape_, 0, rows_).rows * row_stride_;
}

int64_t GradientStrips::scratch_floats() const {
  int64_t pixels = 0;
  for (const Phase& phase : phases_) pixels = std::max(pixels, phase.offsets.pixels());
  return pixels * source_.scratch_floats;
}

// Taps backwards: their outputs then go forward, so that neighbouring taps join into one run.
Phase GradientStrips::MakePhase(int64_t row, int64_t column, int64_t* order) {
  Phase phase = {row, column, {}, {}, {}};
  for (int64_t tap = shape_.taps() - 1; tap >= 0; --tap) {
    const int64_t i = tap / shape_.kernel_width, j = tap % shape_.kernel_width;
    const int64_t h = row + shape_.pad_top - i * shape_.dilation_height;
    const int64_t w = column + shape_.pad_left - j * shape_.dilation_width;
    if (h % shape_.stride_height != 0 || w % shape_.stride_width != 0) continue;
    const int64_t a = h / shape_.stride_height * row_stride_ +
                      w / shape_.stride_width * source_.pixel_floats;
    order_[tap] = (*order)++;
    AppendRun(a, order_[tap] * source_.tap_terms, source_.tap_terms, &phase.runs);
  }
  FinishRuns(&phase.runs);
  phase.offsets = MakeOffsets(phase, rows_);
  phase.last_offsets = MakeOffsets(phase, shape_.height - (per_image_ - 1) * rows_);
  return phase;
}

PixelOffsets GradientStrips::MakeOffsets(const Phase& phase, int64_t rows) const {
  const Window window = WindowOf(shape_, 0, rows_);
  PixelOffsets offsets;
  for (int64_t h = phase.row; h < rows; h += shape_.stride_height) {
    const int64_t p = h / shape_.stride_height - window.first_row;
    for (int64_t w = phase.column; w < shape_.width; w += shape_.stride_width) {
      const int64_t q = w / shape_.stride_width - window.first_column;
      offsets.Add(p * row_stride_ + q * source_.pixel_floats,
                  (h * shape_.width + w) * shape_.channels);
    }
  }
  offsets.Finish(source_.scratch_floats);
  return offsets;
}

}  // namespace pkkd
