// Tiles: which pixels and channels a block and each of its threads sum up, and the choice by size.
#ifndef CUSTOM_OPS_KERNELS_CUDA_TILES_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_TILES_CUH_

#include "custom_ops/kernels/cuda/platform.cuh"

namespace pkkd {

constexpr int kThreads = 128;

// A block sums kPixels x kChannels results, a thread kRows x kColumns of them, in quads spread over
// the block's tile so that a warp reads shared memory without bank conflicts.
template <int kPixels_, int kChannels_, int kRows_, int kColumns_>
struct Tile {
  static constexpr int kPixels = kPixels_, kChannels = kChannels_;
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kAcross = kChannels / kColumns;
  static_assert(kPixels / kRows * kAcross == kThreads, "");
  static_assert(kRows % 4 == 0 && kColumns % 4 == 0, "");

  // The thread's pixel and channel within the block's tile.
  static __device__ __forceinline__ int Row(int i) {
    return threadIdx.x / kAcross * 4 + i / 4 * (kPixels * 4 / kRows) + i % 4;
  }
  static __device__ __forceinline__ int Column(int j) {
    return threadIdx.x % kAcross * 4 + j / 4 * (kChannels * 4 / kColumns) + j % 4;
  }
};

using Wide = Tile<128, 64, 8, 8>;
using Square = Tile<64, 64, 8, 4>;
using Narrow = Tile<128, 32, 8, 4>;
using Slim = Tile<256, 16, 8, 4>;
constexpr int kTiles = 4;

struct TileSize {
  int pixels, channels;
  double rate;  // beside that of Wide; an estimate until someone measures it
};
constexpr TileSize kTileSizes[kTiles] = {
    {128, 64, 1}, {64, 64, 0.9}, {128, 32, 0.9}, {256, 16, 0.85}};

// The tile with the least work in the rounds that `processors` multiprocessors need.
inline int ChooseTile(int64_t pixels, int64_t channels, int64_t repeats, int processors) {
  int best = 0;
  double least = 0;
  for (int i = 0; i < kTiles; ++i) {
    const TileSize& tile = kTileSizes[i];
    const int64_t blocks = (pixels + tile.pixels - 1) / tile.pixels *
                           ((channels + tile.channels - 1) / tile.channels) * repeats;
    const double rounds = double((blocks + processors - 1) / processors);
    const double work = rounds * tile.pixels * tile.channels / tile.rate;
    if (i == 0 || work < least) {
      best = i;
      least = work;
    }
  }
  return best;
}

// Calls call(Tile*) with a null pointer of the tile of that index.
template <typename Call>
auto WithTile(int index, const Call& call) {
  if (index == 1) return call(static_cast<Square*>(nullptr));
  if (index == 2) return call(static_cast<Narrow*>(nullptr));
  if (index == 3) return call(static_cast<Slim*>(nullptr));
  return call(static_cast<Wide*>(nullptr));
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_TILES_CUH_
