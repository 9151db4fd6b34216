#include "custom_ops/kernels/cpu/int8_layout.h"

#include <algorithm>

#include "custom_ops/kernels/cpu/depthwise.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {
namespace {

int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace

Int8Layout::Int8Layout(const AdderShape& shape, const Int8Tiles& tiles)
    : s_(shape),
      tiles_(tiles),
      depthwise_(IsDepthwise(shape)),
      group_bytes_(depthwise_ ? s_.group_outputs() : RoundUp(s_.group_channels(), tiles.group)),
      pixel_bytes_(depthwise_ ? RoundUp(s_.outputs, kInt8Block) : s_.groups * group_bytes_) {
  for (int64_t group = 0; group < (depthwise_ ? 1 : s_.groups); ++group) AddPanels(group);
}

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

}  // namespace pkkd
