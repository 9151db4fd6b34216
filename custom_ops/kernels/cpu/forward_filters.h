// The filters of the forward pass as its inner loops read them.
#ifndef CUSTOM_OPS_KERNELS_CPU_FORWARD_FILTERS_H_
#define CUSTOM_OPS_KERNELS_CPU_FORWARD_FILTERS_H_

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/maxima.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {

struct PackedFilters {
  const void* filters;  // as they came
  const Tiles* tiles;   // whose inner loops read the rest; null if depthwise
  Buffer<float> panels, centres;
};

// Panels of one or two vectors of outputs, group after group.
class FilterLayout {
 public:
  FilterLayout(const AdderShape& shape, const Tiles& tiles);

  const Tiles& tiles() const { return tiles_; }
  int64_t terms() const { return tiles_.pair == nullptr ? 1 : 2; }  // taken at a time
  bool by_maxima() const { return by_maxima_; }
  // Channels of a group as the inner loops see them: whole pairs, if they take them in pairs.
  int64_t row_channels() const { return row_channels_; }
  int64_t rows() const { return rows_; }  // of filters
  const std::vector<Panel>& panels() const { return panels_; }
  int64_t lanes(const Panel& panel) const { return panel.vectors * tiles_.lanes; }
  int64_t group_floats() const { return group_floats_; }
  int64_t OffsetOf(int64_t group, const Panel& panel) const {
    return group * group_floats_ + panel.offset;
  }

 private:
  const Tiles& tiles_;
  const bool by_maxima_;
  const int64_t row_channels_, rows_;
  const std::vector<Panel> panels_;
  const int64_t group_floats_;
};

// Not for depthwise shapes.
PackedFilters PackForwardFilters(const AdderShape& shape, DataType type, const void* filters,
                                 const ParallelFor& parallel_for);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_FORWARD_FILTERS_H_
