// An item of work is a strip of rows of one image. What a strip reads lies in a buffer, or in the
// tensor itself, with a constant stride from pixel to pixel and from row to row; so one table of
// offsets and one list of runs serve all strips.
#ifndef CUSTOM_OPS_KERNELS_CPU_STRIPS_H_
#define CUSTOM_OPS_KERNELS_CPU_STRIPS_H_

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {

struct Strip {
  int64_t image, first_row, end_row;
  bool last;  // of its image, and perhaps smaller
};

struct Source {           // the side the inner loops read
  int64_t pixel_floats;   // of a pixel there
  int64_t tap_terms;      // consecutive terms under one tap
  int64_t scratch_floats;  // of a pixel in the scratch buffers of results
  bool in_place;          // read where it lies, without a copy
};

// Rows of output that see the rows of `window`.
class ForwardStrips {
 public:
  ForwardStrips(const AdderShape& shape, const Source& source);

  static Window WindowOf(const AdderShape& shape, int64_t first_row, int64_t end_row);

  int64_t items() const { return shape_.batch * per_image_; }
  Strip At(int64_t item) const;
  Window WindowOf(const Strip& strip) const {
    return WindowOf(shape_, strip.first_row, strip.end_row);
  }
  const PixelOffsets& OffsetsOf(const Strip& strip) const {
    return strip.last ? last_offsets_ : offsets_;
  }
  int64_t max_pixels() const { return offsets_.pixels(); }
  const std::vector<Run>& runs() const { return runs_; }
  int64_t row_stride() const { return row_stride_; }
  int64_t buffer_floats() const;
  int64_t scratch_floats() const { return offsets_.pixels() * source_.scratch_floats; }

 private:
  PixelOffsets MakeOffsets(int64_t rows) const;

  const AdderShape shape_;
  const Source source_;
  const int64_t row_stride_, rows_, per_image_;
  const PixelOffsets offsets_, last_offsets_;
  std::vector<Run> runs_;
};

// Pixels h mod stride_height = row, w mod stride_width = column: all are seen under the same taps.
struct Phase {
  int64_t row, column;
  std::vector<Run> runs;
  PixelOffsets offsets, last_offsets;

  const PixelOffsets& OffsetsOf(const Strip& strip) const {
    return strip.last ? last_offsets : offsets;
  }
};

// Rows of the image that are seen by the outputs of `window`.
class GradientStrips {
 public:
  GradientStrips(const AdderShape& shape, const Source& source);

  static Window WindowOf(const AdderShape& shape, int64_t first_row, int64_t end_row);

  int64_t items() const { return shape_.batch * per_image_; }
  Strip At(int64_t item) const;
  Window WindowOf(const Strip& strip) const {
    return WindowOf(shape_, strip.first_row, strip.end_row);
  }
  const std::vector<Phase>& phases() const { return phases_; }
  // The place of a tap among the packed filters.
  int64_t OrderOf(int64_t tap) const { return order_[tap]; }
  int64_t rows() const { return rows_; }
  int64_t row_stride() const { return row_stride_; }
  int64_t buffer_floats() const;
  int64_t scratch_floats() const;  // enough for any phase

 private:
  Phase MakePhase(int64_t row, int64_t column, int64_t* order);
  PixelOffsets MakeOffsets(const Phase& phase, int64_t rows) const;

  const AdderShape shape_;
  const Source source_;
  const int64_t row_stride_, rows_, per_image_;
  std::vector<Phase> phases_;
  std::vector<int64_t> order_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_STRIPS_H_
