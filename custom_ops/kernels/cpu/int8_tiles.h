// The inner loops on bytes, one table of functions for each instruction set (see tiles.h).
//
// Signed bytes become unsigned ones by flipping their top bit, which keeps every |x - f|. A panel
// holds the filters of some vectors of outputs: for each step, `group` bytes of every output.
#ifndef CUSTOM_OPS_KERNELS_CPU_INT8_TILES_H_
#define CUSTOM_OPS_KERNELS_CPU_INT8_TILES_H_

#include <cstdint>

#include "custom_ops/kernels/cpu/int8.h"
#include "custom_ops/kernels/cpu/tiles.h"

// Rolled loops would keep arrays of vectors in memory instead of in registers.
#define UNROLL _Pragma("GCC unroll 32")

namespace pkkd {

// Outputs that the depthwise inner loop takes at a time.
constexpr int64_t kInt8Block = 16;

// What some instruction sets want added to the bias: more than the magnitude of any t.
constexpr int64_t kInt8Lift = int64_t{1} << 62;

// One panel of filters, or one block of outputs of a depthwise layer, over many pixels.
struct Int8Job {
  const uint8_t* a;  // what the first pixel's window sees, without a bounds check
  int64_t columns;   // pixels in a row of outputs
  int64_t column_step, row_step;  // from pixel to pixel and from row to row, in `a`
  const uint8_t* panel;
  const Run* runs;  // in bytes of a pixel's window; `b` and `flush` are not read
  int64_t run_count;
  int64_t pixels;
  // The epilogue: int64 of each lane, and the rest as in Int8Epilogue.
  const int64_t *multiplier, *bias;
  int64_t residual_multiplier;
  int32_t shift, low, high;
  bool fits_int32;  // t >> shift does, whatever x is
  const int8_t* residual;
  int8_t* y;
  int64_t outputs;  // from pixel to pixel in `residual` and `y`
  int64_t width;    // lanes that are outputs
};

struct Int8Tiles {
  const char* name;
  int64_t lanes;  // outputs of one vector
  int64_t group;  // bytes of each that stand together
  int64_t lift;   // 0 or kInt8Lift
  // Panels of 4, 2 and 1 vectors; null where the registers do not hold so many.
  void (*forward[3])(const Int8Job& job);
  void (*depthwise)(const Int8Job& job);
  void (*flip)(const int8_t* in, int64_t count, uint8_t* out);
};

extern const Int8Tiles kBaselineInt8Tiles;
#ifdef PKKD_X86
extern const Int8Tiles kAvx2Int8Tiles;
extern const Int8Tiles kAvx512Int8Tiles;
#endif

// The table in use (see InstructionSet in adder.h).
const Int8Tiles& SelectInt8Tiles();

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_INT8_TILES_H_
