// Where the filters and pixels of an int8 adder layer lie, for the inner loops of one instruction set.
#ifndef CUSTOM_OPS_KERNELS_CPU_INT8_LAYOUT_H_
#define CUSTOM_OPS_KERNELS_CPU_INT8_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/int8_tiles.h"

namespace pkkd {

constexpr uint8_t kTopBit = 0x80;  // int8 ^ this: unsigned, in the same order

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
  Int8Layout(const AdderShape& shape, const Int8Tiles& tiles);

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

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_INT8_LAYOUT_H_
