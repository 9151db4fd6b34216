#include "custom_ops/kernels/cpu/layout.h"

#include <algorithm>
#include <cstring>

namespace pkkd {
namespace {

constexpr int64_t kTermsPerFlush = 256;

// An exponent of all ones means infinity or NaN.
template <typename Word>
bool NoExponentIsFull(const void* values, int64_t count, Word exponent) {
  const Word* words = static_cast<const Word*>(values);
  Word found = 0;
  for (int64_t i = 0; i < count; ++i) found |= (words[i] & exponent) == exponent;
  return found == 0;
}

}  // namespace

std::vector<Panel> MakePanels(const Tiles& tiles, int64_t channels, int64_t rows) {
  std::vector<Panel> panels;
  int64_t offset = 0;
  for (int64_t first = 0; first < channels;) {
    const int64_t vectors =
        std::min(CeilDiv(channels - first, tiles.lanes), tiles.max_vectors);
    const int64_t width = std::min(channels - first, vectors * tiles.lanes);
    panels.push_back({first, width, vectors, offset});
    offset += rows * vectors * tiles.lanes;
    first += width;
  }
  return panels;
}

int64_t PackedFloats(const Tiles& tiles, const std::vector<Panel>& panels, int64_t rows) {
  return panels.back().offset + rows * panels.back().vectors * tiles.lanes;
}

void AppendRun(int64_t a, int64_t b, int64_t length, std::vector<Run>* runs) {
  if (!runs->empty()) {
    Run& last = runs->back();
    if (last.a + last.length == a && last.b + last.length == b) {
      last.length += length;
      return;
    }
  }
  runs->push_back({a, b, length, false});
}

void FinishRuns(std::vector<Run>* runs) {
  std::vector<Run> pieces;
  int64_t terms = 0;
  for (const Run& run : *runs) {
    for (int64_t done = 0; done < run.length; done += pieces.back().length) {
      const int64_t length = std::min(kTermsPerFlush, run.length - done);
      terms += length;
      pieces.push_back({run.a + done, run.b + done, length, terms >= kTermsPerFlush});
      if (pieces.back().flush) terms = 0;
    }
  }
  if (!pieces.empty()) pieces.back().flush = true;
  *runs = std::move(pieces);
}

AdderShape Flattened(const AdderShape& shape) {
  AdderShape flat = shape;
  const bool unpadded = shape.pad_top == 0 && shape.pad_left == 0 &&
                        shape.output_height == shape.height && shape.output_width == shape.width;
  if (shape.taps() == 1 && unpadded && shape.stride_height == 1 && shape.stride_width == 1) {
    flat.height = flat.output_height = shape.batch * shape.height * shape.width;
    flat.batch = flat.width = flat.output_width = 1;
  }
  return flat;
}

void PixelOffsets::Finish(int64_t scratch_floats) {
  pixels_ = a_.size();
  if (pixels_ == 0) return;
  for (int64_t pixel = 0; pixel < pixels_; ++pixel) scratch_.push_back(pixel * scratch_floats);
  for (std::vector<int64_t>* offsets : {&a_, &tensor_, &scratch_}) {
    offsets->resize(pixels_ + kMaxTilePixels, offsets->back());
  }
}

void CopyWindow(const Tiles& tiles, DataType type, const void* image, int64_t height,
                int64_t width, int64_t channels, const Window& window, float* out) {
  const int64_t first = std::clamp<int64_t>(window.first_column, 0, width);
  const int64_t last = std::clamp<int64_t>(window.end_column(), first, width);
  const int64_t left = std::clamp<int64_t>(first - window.first_column, 0, window.columns);
  const int64_t right = window.columns - left - (last - first);
  for (int64_t row = window.first_row; row < window.end_row(); ++row) {
    const bool inside = row >= 0 && row < height && last > first;
    float* pixels = out + left * channels;
    std::fill(out, inside ? pixels : out + window.columns * channels, 0.0f);
    out += window.columns * channels;
    if (!inside) continue;
    tiles.to_float(type, At(type, image, (row * width + first) * channels),
                   (last - first) * channels, pixels);
    std::fill(out - right * channels, out, 0.0f);
  }
}

bool AllFinite(DataType type, const void* values, int64_t count) {
  if (type == DataType::kFloat32) return NoExponentIsFull<uint32_t>(values, count, 0x7f800000);
  const uint16_t exponent = type == DataType::kBFloat16 ? 0x7f80 : 0x7c00;
  return NoExponentIsFull<uint16_t>(values, count, exponent);
}

}  // namespace pkkd
