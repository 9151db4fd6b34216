// The table of the functions that one instruction set has, after its simd_*.h.
#include "custom_ops/kernels/cpu/tiles_impl.h"
// After it:
#include "custom_ops/kernels/cpu/convert_impl.h"
#include "custom_ops/kernels/cpu/depthwise_impl.h"

namespace pkkd {
namespace {

constexpr Tiles NamedTiles(const char* name) {
  Tiles tiles = {};
  tiles.name = name;
  tiles.lanes = kLanes;
  tiles.depthwise_pixels = kDepthwisePixels;
  tiles.depthwise_forward = ForwardByChannel;
  tiles.depthwise_gradient[0] = GradientByChannel<Slope::kClipped>;
  tiles.depthwise_gradient[1] = GradientByChannel<Slope::kSign>;
  tiles.to_float = ToFloatType;
  tiles.from_float = FromFloatType;
  return tiles;
}

// Adds the tiles of panels of Q vectors: F pixels of a forward and G of a gradient tile.
template <int Q, int F, int G>
constexpr Tiles WithPanels(Tiles tiles) {
  static_assert(F <= kMaxTilePixels && G <= kMaxTilePixels);
  tiles.max_vectors = Q;
  tiles.forward_pixels[Q - 1] = F;
  tiles.forward[Q - 1] = Forward<F, Q>;
  tiles.gradient_pixels[Q - 1] = G;
  tiles.gradient[0][Q - 1] = Gradient<Slope::kClipped, G, Q>;
  tiles.gradient[1][Q - 1] = Gradient<Slope::kSign, G, Q>;
  return tiles;
}

// Panels of one vector, their terms in pairs: pixels of a forward and of a gradient tile.
template <int F1, int G1>
constexpr Tiles MakeTiles(const char* name, decltype(Tiles::pair) pair, const Tiles* unpaired) {
  Tiles tiles = WithPanels<1, F1, G1>(NamedTiles(name));
  tiles.pair = pair;
  tiles.unpaired = unpaired;
  return tiles;
}

// Panels of one or two vectors: pixels of a tile with one and with two.
template <int F1, int F2, int G1, int G2>
constexpr Tiles MakeTiles(const char* name, const MaximaTiles& maxima = {}) {
  Tiles tiles = WithPanels<2, F2, G2>(WithPanels<1, F1, G1>(NamedTiles(name)));
  tiles.maxima = maxima;
  return tiles;
}

}  // namespace
}  // namespace pkkd
