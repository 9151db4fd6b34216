// The filters are packed into panels of some vectors of outputs. The pixels that some rows of outputs
// see are copied, padded, as unsigned bytes into a buffer of first-level cache size; then panels x
// tiles of pixels run over it without a bounds check, and the epilogue follows in the registers.
#include "custom_ops/kernels/cpu/int8.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "custom_ops/kernels/cpu/depthwise.h"
#include "custom_ops/kernels/cpu/int8_tiles.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {
namespace {

constexpr int64_t kStripBytes = 32 * 1024;
constexpr int64_t kWantedItems = 8;  // of work, where there are few rows
constexpr uint8_t kTopBit = 0x80;

int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Some vectors of the outputs of a group, and where their filters lie.
struct Int8Panel {
  int64_t group, first, width;  // outputs of the group
  int64_t kernel;               // of Int8Tiles::forward
  int64_t lanes, lane;          // lane: of the first among those of all panels
  int64_t offset;               // of the packed filters, in bytes
};

// How a layer is laid out for the inner loops of one instruction set, whatever the images' sizes.
class Int8Layout {
 public:
  Int8Layout(const AdderShape& shape, const Int8Tiles& tiles)
      : s_(shape),
        tiles_(tiles),
        depthwise_(IsDepthwise(shape)),
        group_bytes_(depthwise_ ? s_.group_outputs()
                                : RoundUp(s_.group_channels(), tiles.group)),
        pixel_bytes_(depthwise_ ? RoundUp(s_.outputs, kInt8Block) : s_.groups * group_bytes_) {
    for (int64_t group = 0; group < (depthwise_ ? 1 : s_.groups); ++group) AddPanels(group);
  }

  bool depthwise() const { return depthwise_; }
  int64_t group_bytes() const { return group_bytes_; }  // of a pixel
  int64_t pixel_bytes() const { return pixel_bytes_; }
  const std::vector<Int8Panel>& panels() const { return panels_; }
  int64_t lanes() const { return panels_.back().lane + panels_.back().lanes; }
  int64_t filter_bytes() const { return lanes() * terms(); }
  void Pack(const int8_t* filters, uint8_t* packed) const;

 private:
  // Bytes of a window that meet one output.
  int64_t terms() const { return s_.taps() * (depthwise_ ? 1 : group_bytes_); }
  void AddPanels(int64_t group);
  void PackRow(const int8_t* row, int64_t tap, int64_t c, uint8_t* packed) const;

  const AdderShape s_;
  const Int8Tiles& tiles_;
  const bool depthwise_;
  const int64_t group_bytes_, pixel_bytes_;
  std::vector<Int8Panel> panels_;
};

void Int8Layout::AddPanels(int64_t group) {
  const int64_t outputs = depthwise_ ? s_.outputs : s_.group_outputs();
  for (int64_t first = 0; first < outputs;) {
    int64_t kernel = 2, lanes = depthwise_ ? kInt8Block : tiles_.lanes;
    const int64_t left = RoundUp(outputs - first, lanes);
    while (!depthwise_ && kernel > 0 && tiles_.forward[kernel - 1] && 2 * lanes <= left) {
      --kernel;
      lanes *= 2;
    }
    const int64_t lane = panels_.empty() ? 0 : this->lanes();
    const int64_t width = std::min(lanes, outputs - first);
    panels_.push_back({group, first, width, kernel, lanes, lane, lane * terms()});
    first += width;
  }
}

void Int8Layout::Pack(const int8_t* filters, uint8_t* packed) const {
  std::fill(packed, packed + filter_bytes(), 0);
  for (int64_t tap = 0; tap < s_.taps(); ++tap) {
    for (int64_t c = 0; c < s_.group_channels(); ++c, filters += s_.outputs) {
      PackRow(filters, tap, c, packed);
    }
  }
}

// The filters of all outputs that meet channel c under a tap.
void Int8Layout::PackRow(const int8_t* row, int64_t tap, int64_t c, uint8_t* packed) const {
  const int64_t together = depthwise_ ? 1 : tiles_.group;
  const int64_t k = depthwise_ ? tap : tap * group_bytes_ + c;
  for (const Int8Panel& panel : panels_) {
    const int8_t* in = row + panel.group * s_.group_outputs() + panel.first;
    uint8_t* out = packed + panel.offset + k / together * panel.lanes * together + k % together;
    for (int64_t o = 0; o < panel.width; ++o) out[o * together] = in[o] ^ kTopBit;
  }
}

class Int8Pass {
 public:
  Int8Pass(const AdderShape& shape, const int8_t* x, const PackedFiltersInt8& filters,
           int32_t zero, const Int8Epilogue& epilogue, int8_t* y);
  void Compute(const ParallelFor& parallel_for);

 private:
  void AddRuns();
  void CopyEpilogue();
  bool FitsInt32() const;
  int64_t StripRows() const;
  int64_t Cost() const;
  Window WindowOf(int64_t first_row, int64_t rows) const;
  void ComputeRows(int64_t image, int64_t row, int64_t rows, int64_t part, uint8_t* strip) const;
  void RunPanel(const Int8Panel& panel, const uint8_t* strip, int64_t pixel, int64_t pixels) const;
  void CopyStrip(const int8_t* image, const Window& window, uint8_t* out) const;
  uint8_t* CopyPixels(const int8_t* in, int64_t pixels, uint8_t* out) const;
  uint8_t* ZeroPixels(int64_t pixels, uint8_t* out) const;

  const AdderShape s_;
  const int8_t* const x_;
  const PackedFiltersInt8& filters_;
  const Int8Tiles& tiles_;
  const Int8Layout layout_;
  const Int8Epilogue& epilogue_;
  int8_t* const y_;
  const bool dense_;  // pixels of the strips are those of x, byte by byte
  const int64_t row_stride_, rows_;  // of a strip
  const int64_t parts_;              // of the panels, computed by themselves
  bool fits_int32_;
  std::vector<Run> runs_;
  std::vector<int64_t> multiplier_, bias_;  // of every lane
  std::vector<uint8_t> zero_pixel_;
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
      dense_(layout_.pixel_bytes() == s_.channels),
      row_stride_(WindowOf(0, 1).columns * layout_.pixel_bytes()),
      rows_(StripRows()),
      parts_(std::clamp<int64_t>(CeilDiv(kWantedItems, s_.batch * s_.output_height), 1,
                                 layout_.panels().size())),
      zero_pixel_(layout_.pixel_bytes()) {
  AddRuns();
  CopyEpilogue();
  const std::vector<int8_t> pixel(s_.channels, zero);
  CopyPixels(pixel.data(), 1, zero_pixel_.data());
}

void Int8Pass::AddRuns() {
  const int64_t length = layout_.depthwise() ? 1 : layout_.group_bytes();
  for (int64_t tap = 0; tap < s_.taps(); ++tap) {
    const int64_t i = tap / s_.kernel_width, j = tap % s_.kernel_width;
    const int64_t a =
        i * s_.dilation_height * row_stride_ + j * s_.dilation_width * layout_.pixel_bytes();
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

Window Int8Pass::WindowOf(int64_t first_row, int64_t rows) const {
  return {first_row * s_.stride_height - s_.pad_top,
          (rows - 1) * s_.stride_height + (s_.kernel_height - 1) * s_.dilation_height + 1,
          -s_.pad_left,
          (s_.output_width - 1) * s_.stride_width + (s_.kernel_width - 1) * s_.dilation_width + 1};
}

int64_t Int8Pass::StripRows() const {
  const int64_t most = kStripBytes / row_stride_, one = WindowOf(0, 1).rows;
  return std::clamp<int64_t>((most - one) / s_.stride_height + 1, 1, s_.output_height);
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
    const int64_t most = std::clamp<int64_t>(last - first, 1, rows_);
    const Buffer<uint8_t> strip(WindowOf(0, most).rows * row_stride_);
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
  CopyStrip(x_ + image * s_.height * s_.width * s_.channels, WindowOf(row, rows), strip);
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
  job.row_step = s_.stride_height * row_stride_;
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

void Int8Pass::CopyStrip(const int8_t* image, const Window& window, uint8_t* out) const {
  const int64_t first = std::clamp<int64_t>(window.first_column, 0, s_.width);
  const int64_t last = std::clamp<int64_t>(window.end_column(), first, s_.width);
  const int64_t left = std::clamp<int64_t>(first - window.first_column, 0, window.columns);
  const int64_t right = window.columns - left - (last - first);
  if (window.columns == s_.width && window.IsInside(s_.height, s_.width)) {
    CopyPixels(image + window.first_row * s_.width * s_.channels, window.rows * s_.width, out);
    return;
  }
  for (int64_t row = window.first_row; row < window.end_row(); ++row) {
    if (row < 0 || row >= s_.height) {
      out = ZeroPixels(window.columns, out);
      continue;
    }
    out = ZeroPixels(left, out);
    out = CopyPixels(image + (row * s_.width + first) * s_.channels, last - first, out);
    out = ZeroPixels(right, out);
  }
}

// Returns where the next pixel goes.
uint8_t* Int8Pass::CopyPixels(const int8_t* in, int64_t pixels, uint8_t* out) const {
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

uint8_t* Int8Pass::ZeroPixels(int64_t pixels, uint8_t* out) const {
  if (dense_) return std::fill_n(out, pixels * layout_.pixel_bytes(), zero_pixel_[0]);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    out = std::copy(zero_pixel_.begin(), zero_pixel_.end(), out);
  }
  return out;
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
