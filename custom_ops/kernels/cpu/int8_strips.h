// The pixels that some rows of outputs see, padded, as unsigned bytes in a first-level cache.
#ifndef CUSTOM_OPS_KERNELS_CPU_INT8_STRIPS_H_
#define CUSTOM_OPS_KERNELS_CPU_INT8_STRIPS_H_

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/int8_layout.h"
#include "custom_ops/kernels/cpu/int8_tiles.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {

class Int8Strips {
 public:
  // zero: what a tap outside the image is.
  Int8Strips(const AdderShape& shape, const Int8Layout& layout, const Int8Tiles& tiles,
             int32_t zero);

  int64_t rows() const { return rows_; }  // of outputs whose strip fits into the cache
  int64_t row_bytes() const { return row_bytes_; }
  int64_t bytes(int64_t rows) const { return WindowOf(0, rows).rows * row_bytes_; }

  // Writes the strip of some rows of outputs of an image.
  void Copy(const int8_t* image, int64_t first_row, int64_t rows, uint8_t* strip) const;

 private:
  Window WindowOf(int64_t first_row, int64_t rows) const;
  int64_t MostRows() const;
  uint8_t* CopyRow(const int8_t* row, const Window& window, uint8_t* out) const;
  uint8_t* CopyPixels(const int8_t* in, int64_t pixels, uint8_t* out) const;
  uint8_t* ZeroPixels(int64_t pixels, uint8_t* out) const;

  const AdderShape s_;
  const Int8Layout& layout_;
  const Int8Tiles& tiles_;
  const bool dense_;  // pixels of the strips are those of the image, byte by byte
  const int64_t row_bytes_, rows_;
  std::vector<uint8_t> zero_pixel_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_INT8_STRIPS_H_
