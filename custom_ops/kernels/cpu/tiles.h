// The inner loops, one table of functions for each instruction set.
//
// Only tiles_*.cc are compiled with special flags, and everything they hold has internal linkage:
// no function compiled for a newer processor can be picked by the linker for an older one.
#ifndef CUSTOM_OPS_KERNELS_CPU_TILES_H_
#define CUSTOM_OPS_KERNELS_CPU_TILES_H_

#include <cstdint>

#include "custom_ops/kernels/cpu/adder.h"

namespace pkkd {

// Of any kind of tile. Tables of pixels go on for as many, so that the last tile may be ragged.
constexpr int64_t kMaxTilePixels = 16;

// `length` consecutive terms of a sum: element `a + k` of the image side (relative to a pixel's
// offset) meets row `b + k` of the filter panel. `flush`: add the partial sum to the total after.
struct Run {
  int64_t a, b, length;
  bool flush;
};

// One panel of filters over many pixels. A panel has 1 or 2 vectors of lanes, rows stored densely.
struct PanelJob {
  const float* a;          // image side: x (forward) or the gradient (input gradient)
  const int64_t* a_offset;  // of each pixel
  const float* panel;
  const Run* runs;
  int64_t run_count;
  const float* x;  // input gradient only: X at out_offset, a whole panel row readable
  float* out;      // a whole panel row is written
  const int64_t* out_offset;
  int64_t pixels;    // a multiple of the tile's pixels
  int64_t channels;  // depthwise only: of a row of `a`, `panel`, `x` and `out`, whole vectors
  const float* pixel_sums;   // maxima only: of the terms of each pixel,
  const float* filter_sums;  // and two rows of a panel (maxima.h)
};

// The forward pass by maxima (maxima.h), by number of vectors in the panel, less one. All null:
// there is none.
struct MaximaTiles {
  int64_t pixels[2];
  void (*forward[2])(const PanelJob& job);
  void (*sum_pixels)(const PanelJob& job, float* sums);  // the terms of each of job.pixels
};

struct Tiles {
  const char* name;
  int64_t lanes;
  int64_t max_vectors;  // of a panel, 1 or 2
  // By number of vectors in the panel, less one.
  int64_t forward_pixels[2];
  void (*forward[2])(const PanelJob& job);
  int64_t gradient_pixels[2];
  void (*gradient[2][2])(const PanelJob& job);  // [slope][vectors - 1]
  // Depthwise: channel c of a pixel meets channel c of the filters.
  int64_t depthwise_pixels;
  void (*depthwise_forward)(const PanelJob& job);
  void (*depthwise_gradient[2])(const PanelJob& job);  // [slope]
  // Null, or the forward pass takes its terms in pairs (pairs.h): `a` and the panel then hold sums
  // and differences, and this makes them from `pixels` of (groups, channels), channels padded to
  // an even number. In place if it is even.
  void (*pair)(const float* in, const float* centres, int64_t pixels, int64_t groups,
               int64_t channels, float* out);
  const Tiles* unpaired;  // then the table for sums too short to be taken in pairs
  MaximaTiles maxima;
  // `count` numbers from and to a storage type.
  void (*to_float)(DataType type, const void* in, int64_t count, float* out);
  void (*from_float)(DataType type, const float* in, int64_t count, void* out);
};

extern const Tiles kBaselineTiles;
#ifdef PKKD_X86
extern const Tiles kAvx2Tiles;
extern const Tiles kAvx512Tiles;
#endif

// The table in use (see InstructionSet in adder.h).
const Tiles& SelectTiles();

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_TILES_H_
