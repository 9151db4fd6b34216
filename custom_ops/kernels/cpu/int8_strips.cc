#include "custom_ops/kernels/cpu/int8_strips.h"

#include <algorithm>

namespace pkkd {
namespace {

constexpr int64_t kStripBytes = 32 * 1024;

}  // namespace

Int8Strips::Int8Strips(const AdderShape& shape, const Int8Layout& layout, const Int8Tiles& tiles,
                       int32_t zero)
    : s_(shape),
      layout_(layout),
      tiles_(tiles),
      dense_(layout.pixel_bytes() == s_.channels),
      row_bytes_(WindowOf(0, 1).columns * layout.pixel_bytes()),
      rows_(MostRows()),
      zero_pixel_(layout.pixel_bytes()) {
  const std::vector<int8_t> pixel(s_.channels, zero);
  CopyPixels(pixel.data(), 1, zero_pixel_.data());
}

Window Int8Strips::WindowOf(int64_t first_row, int64_t rows) const {
  return {first_row * s_.stride_height - s_.pad_top,
          (rows - 1) * s_.stride_height + (s_.kernel_height - 1) * s_.dilation_height + 1,
          -s_.pad_left,
          (s_.output_width - 1) * s_.stride_width + (s_.kernel_width - 1) * s_.dilation_width + 1};
}

int64_t Int8Strips::MostRows() const {
  const int64_t most = kStripBytes / row_bytes_, one = WindowOf(0, 1).rows;
  return std::clamp<int64_t>((most - one) / s_.stride_height + 1, 1, s_.output_height);
}

void Int8Strips::Copy(const int8_t* image, int64_t first_row, int64_t rows,
                      uint8_t* strip) const {
  const Window window = WindowOf(first_row, rows);
  const int64_t row_numbers = s_.width * s_.channels;
  if (window.columns == s_.width && window.IsInside(s_.height, s_.width)) {
    CopyPixels(image + window.first_row * row_numbers, window.rows * s_.width, strip);
    return;
  }
  for (int64_t row = window.first_row; row < window.end_row(); ++row) {
    const bool inside = row >= 0 && row < s_.height;
    strip = inside ? CopyRow(image + row * row_numbers, window, strip)
                   : ZeroPixels(window.columns, strip);
  }
}

// These return where the next pixel goes.

uint8_t* Int8Strips::CopyRow(const int8_t* row, const Window& window, uint8_t* out) const {
  const int64_t first = std::clamp<int64_t>(window.first_column, 0, s_.width);
  const int64_t last = std::clamp<int64_t>(window.end_column(), first, s_.width);
  const int64_t left = std::clamp<int64_t>(first - window.first_column, 0, window.columns);
  out = ZeroPixels(left, out);
  out = CopyPixels(row + first * s_.channels, last - first, out);
  return ZeroPixels(window.columns - left - (last - first), out);
}

uint8_t* Int8Strips::CopyPixels(const int8_t* in, int64_t pixels, uint8_t* out) const {
  if (dense_) {
    tiles_.flip(in, pixels * s_.channels, out);
    return out + pixels * s_.channels;
  }
  const int64_t channels = s_.group_channels();
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    uint8_t* const end = out + layout_.pixel_bytes();
    for (int64_t group = 0; group < s_.groups; ++group, in += channels) {
      uint8_t* const next = out + layout_.group_bytes();
      if (layout_.depthwise()) {
        std::fill(out, next, *in ^ kTopBit);
      } else {
        tiles_.flip(in, channels, out);
        std::fill(out + channels, next, 0);
      }
      out = next;
    }
    std::fill(out, end, 0);
    out = end;
  }
  return out;
}

uint8_t* Int8Strips::ZeroPixels(int64_t pixels, uint8_t* out) const {
  if (dense_) return std::fill_n(out, pixels * layout_.pixel_bytes(), zero_pixel_[0]);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    out = std::copy(zero_pixel_.begin(), zero_pixel_.end(), out);
  }
  return out;
}

}  // namespace pkkd
