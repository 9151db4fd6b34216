// dX[n,h,w,c] = sum HT(F - X) G, gathered: rows are the pixels (n, h, w) of one phase of the
// stride, columns are channels c, the sum runs over k = (tap of that phase, output). X stays in
// registers. Inner loop: two multiply-adds, one of them saturating.
#ifndef CUSTOM_OPS_KERNELS_CUDA_INPUT_GRADIENT_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_INPUT_GRADIENT_CUH_

#include "custom_ops/kernels/cuda/arguments.cuh"
#include "custom_ops/kernels/cuda/direct.cuh"
#include "custom_ops/kernels/cuda/gather.cuh"

namespace pkkd {

// HT(f - x) = 2 sat((f - centre) / 2 + 1 / 2 - (x - centre) / 2) - 1, the -1 summed apart.
struct ClippedTerms {
  static constexpr Slope kSlope = Slope::kClipped;
  static __device__ __forceinline__ float Filter(float f, float centre) {
    return fmaf(f - centre, 0.5f, 0.5f);
  }
  static __device__ __forceinline__ float Pixel(float x, float centre) { return x - centre; }
  static __device__ __forceinline__ float Add(float g, float f, float x, float sum) {
    return fmaf(g, __saturatef(fmaf(x, -0.5f, f)), sum);
  }
  static __device__ __forceinline__ float Result(float sum, float gradient_sum) {
    return fmaf(2, sum, -gradient_sum);
  }
};

struct SignTerms {
  static constexpr Slope kSlope = Slope::kSign;
  static __device__ __forceinline__ float Filter(float f, float) { return f; }
  static __device__ __forceinline__ float Pixel(float x, float) { return x; }
  static __device__ __forceinline__ float Add(float g, float f, float x, float sum) {
    return fmaf(g, float(f > x) - float(f < x), sum);
  }
  static __device__ __forceinline__ float Result(float sum, float) { return sum; }
};

// Which results a block sums up: tiles of channels fastest, then groups, then phases, then tiles of
// pixels.
struct Block {
  Phase rows, columns;
  int first_pixel, first_channel, group;
};

template <typename Tile>
__device__ __forceinline__ Block BlockOf(const Sizes& s) {
  const int across = CeilDiv(s.group_channels, Tile::kChannels);
  Block block;
  block.first_channel = blockIdx.x % across * Tile::kChannels;
  int rest = blockIdx.x / across;
  block.group = rest % s.groups;
  rest /= s.groups;
  block.rows = PhaseOf(s.rows, rest % PhaseCount(s.rows));
  rest /= PhaseCount(s.rows);
  block.columns = PhaseOf(s.columns, rest % PhaseCount(s.columns));
  block.first_pixel = rest / PhaseCount(s.columns) * Tile::kPixels;
  return block;
}

__device__ __forceinline__ Placement PlacementOf(const Sizes& s, const Block& block, int pixel) {
  const Phase &rows = block.rows, &columns = block.columns;
  const int u = pixel / columns.positions % rows.positions, v = pixel % columns.positions;
  const int n = pixel / columns.positions / rows.positions;
  if (n >= s.batch) return kNowhere;
  const int h = rows.first + u * s.rows.stride, w = columns.first + v * s.columns.stride;
  const int channel = block.group * s.group_channels + block.first_channel;
  return {n, u + rows.first_output, v + columns.first_output,
          ((n * s.rows.image + h) * s.columns.image + w) * s.channels + channel};
}

// The gradient of the response, as the block's pixels see it.
__device__ __forceinline__ Image ImageOf(const Sizes& s, const Block& block) {
  return {s.rows.output,
          s.columns.output,
          s.outputs,
          -block.rows.output_step,
          -block.columns.output_step,
          block.rows.taps,
          block.columns.taps,
          s.group_outputs};
}

__device__ __forceinline__ Taps TapsOf(const Sizes& s, const Block& block) {
  return {block.rows.first_tap,   block.rows.tap_step, block.columns.first_tap,
          block.columns.tap_step, s.columns.kernel,    s.group_channels, s.outputs};
}

// The block's results again, where NaN or infinity is among its numbers. A call, because what it
// needs shall not stay in registers during the sums.
template <typename T, typename Tile>
__device__ __noinline__ void WriteByFormula(const GradientArguments<T>& arguments,
                                            const Block& block, Slope slope) {
  const Sizes& s = arguments.sizes;
  for (int i = threadIdx.x; i < Tile::kPixels * Tile::kChannels; i += kThreads) {
    const int column = i % Tile::kChannels, pixel = block.first_pixel + i / Tile::kChannels;
    const Placement place = PlacementOf(s, block, pixel);
    if (place.result < 0 || block.first_channel + column >= s.group_channels) continue;
    const int channel = block.group * s.group_channels + block.first_channel + column;
    arguments.dx[place.result + column] = FromFloat32<T>(DirectInputGradient(
        arguments, block.rows, block.columns, slope, place.image,
        place.row - block.rows.first_output, place.column - block.columns.first_output, channel));
  }
}

// centres[item] = the filter value of least magnitude of each of the block's channels. Subtracted
// from a channel's x and f, it takes away a common offset, and never adds to their rounding errors:
// no |f - centre| exceeds 2 |f|. Eight threads read a channel.
template <typename T, typename Tile>
__device__ __forceinline__ void FindCentres(const Image& gradient, const Taps& taps,
                                            const T* filters, int items, bool quads,
                                            float (&centres)[Tile::kChannels]) {
  constexpr int kParts = 8;
  __shared__ unsigned least[kParts][Tile::kChannels];
  const int part = threadIdx.x % kParts, step = quads ? 4 : 1;
  const int row_length = gradient.depth / step;
  const int length = gradient.tap_rows * gradient.tap_columns * row_length;
  for (int item = threadIdx.x / kParts; item < Tile::kChannels; item += kThreads / kParts) {
    unsigned smallest = 0xffffffffu;  // bits with the sign last, in order of magnitude
    PKKD_UNROLL_4
    for (int i = part; i < (item < items ? length : 0); i += kParts) {
      const int tap = i / row_length, output = i % row_length * step;
      const T* const filter = filters + item * taps.outputs + output +
                              taps.Offset(tap / gradient.tap_columns, tap % gradient.tap_columns);
      Quad<T> quad;
      if (quads) {
        quad = LoadQuad(filter);
      } else {
        PKKD_UNROLL
        for (int e = 0; e < 4; ++e) quad.v[e] = *filter;
      }
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        const unsigned bits = __float_as_uint(ToFloat32(quad.v[e]));
        const unsigned key = bits << 1 | bits >> 31;
        smallest = key < smallest ? key : smallest;
      }
    }
    least[part][item] = smallest;
  }
  __syncthreads();
  if (threadIdx.x < Tile::kChannels) {
    unsigned smallest = least[0][threadIdx.x];
    PKKD_UNROLL
    for (int i = 1; i < kParts; ++i) {
      const unsigned key = least[i][threadIdx.x];
      smallest = key < smallest ? key : smallest;
    }
    const bool finite = smallest < 0xff000000u;
    centres[threadIdx.x] = finite ? __uint_as_float(smallest >> 1 | smallest << 31) : 0;
  }
  __syncthreads();
}

template <typename T, typename Tile, typename Terms>
__global__ void __launch_bounds__(kThreads, Tile::kColumns == 8 ? 2 : Tile::kPixels == 256 ? 3 : 4)
    InputGradientKernel(const __grid_constant__ GradientArguments<T> arguments) {
  constexpr int kDepth = 8;
  using PixelLoader = Pixels<T, Tile::kPixels, kDepth>;
  using FilterLoader = FilterColumns<T, Tile::kChannels, kDepth>;
  using PixelLayout = typename PixelLoader::Layout;
  using FilterLayout = typename FilterLoader::Layout;
  alignas(16) __shared__ float pixel_tiles[2][kDepth][PixelLayout::kPitch];
  alignas(16) __shared__ float filter_tiles[2][kDepth][FilterLayout::kPitch];
  __shared__ float gradient_sums[kDepth / 4][Tile::kPixels];
  __shared__ float centres[Tile::kChannels];
  __shared__ Placement placements[Tile::kPixels];
  __shared__ Block block;  // not in registers: the sums need them

  const Sizes& s = arguments.sizes;
  if (threadIdx.x == 0) block = BlockOf<Tile>(s);
  __syncthreads();
  if (block.first_pixel >= s.batch * block.rows.positions * block.columns.positions) return;
  const int items = s.group_channels - block.first_channel;
  const T* const gradient = arguments.gradient + block.group * s.group_outputs;
  const T* const filters =
      arguments.filters + block.first_channel * s.outputs + block.group * s.group_outputs;
  for (int i = threadIdx.x; i < Tile::kPixels; i += kThreads) {
    placements[i] = PlacementOf(s, block, block.first_pixel + i);
  }
  FindCentres<T, Tile>(ImageOf(s, block), TapsOf(s, block), filters, items,
                       arguments.output_quads, centres);

  bool finite = true;
  float x[Tile::kRows][Tile::kColumns], sum[Tile::kRows][Tile::kColumns] = {};
  PKKD_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int offset = placements[Tile::Row(i)].result;
    PKKD_UNROLL
    for (int j = 0; j < Tile::kColumns; j += 4) {
      const int column = Tile::Column(j);
      Quad<T> quad = Zeros<T>();
      if (offset >= 0 && arguments.x_quads && column < items) {
        quad = LoadQuad(arguments.x + offset + column);
      } else if (offset >= 0) {
        PKKD_UNROLL
        for (int e = 0; e < 4; ++e) {
          if (column + e < items) quad.v[e] = arguments.x[offset + column + e];
        }
      }
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        finite &= IsFinite(ToFloat32(quad.v[e]));
        x[i][j + e] = Terms::Pixel(ToFloat32(quad.v[e]), centres[column + e]);
      }
    }
  }

  PixelLoader pixel_loader;
  FilterLoader filter_loader;
  float gradient_sum[PixelLayout::kPasses] = {};
  Term term = {0, 0, 0};
  ImageOf(s, block).Advance(PixelLayout::FirstTerm(), &term);
  const int terms = ImageOf(s, block).terms();
  const auto fetch = [&] {
    if (!arguments.output_quads) return;
    const Image image = ImageOf(s, block);
    pixel_loader.FetchQuads(image, placements, gradient, term);
    filter_loader.FetchQuads(TapsOf(s, block), image, filters, items, term);
  };
  const auto store = [&](int buffer) {
    const auto convert_gradient = [&](T value, int pass) {
      const float g = ToFloat32(value);
      gradient_sum[pass] += g;
      finite &= IsFinite(g);
      return g;
    };
    const auto convert_filter = [&](T value, int item) {
      const float f = ToFloat32(value);
      finite &= IsFinite(f);
      return Terms::Filter(f, centres[item]);
    };
    const Image image = ImageOf(s, block);
    if (arguments.output_quads) {
      pixel_loader.StoreQuads(pixel_tiles[buffer], convert_gradient);
      filter_loader.StoreQuads(filter_tiles[buffer], convert_filter);
    } else {
      PixelLoader::Move(image, placements, gradient, term, pixel_tiles[buffer], convert_gradient);
      FilterLoader::Move(TapsOf(s, block), image, filters, items, term, filter_tiles[buffer],
                         convert_filter);
    }
    image.Advance(kDepth, &term);
    __syncthreads();
  };
  const auto add = [&](int buffer) {
    PKKD_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      Quad<float> g[Tile::kRows / 4], f[Tile::kColumns / 4];
      PKKD_UNROLL
      for (int i = 0; i < Tile::kRows; i += 4) {
        g[i / 4] = LoadQuad(&pixel_tiles[buffer][k][Tile::Row(i)]);
      }
      PKKD_UNROLL
      for (int j = 0; j < Tile::kColumns; j += 4) {
        f[j / 4] = LoadQuad(&filter_tiles[buffer][k][Tile::Column(j)]);
      }
      PKKD_UNROLL
      for (int i = 0; i < Tile::kRows; ++i) {
        PKKD_UNROLL
        for (int j = 0; j < Tile::kColumns; ++j) {
          sum[i][j] = Terms::Add(g[i / 4].v[i % 4], f[j / 4].v[j % 4], x[i][j], sum[i][j]);
        }
      }
    }
  };

  if (terms > 0) {
    int buffer = 0;
    fetch();
    store(0);
    for (int next = kDepth;; next += kDepth) {
      const bool is_last = next >= terms;
      if (!is_last) fetch();
      add(buffer);
      if (is_last) break;
      buffer ^= 1;
      store(buffer);
    }
  }

  PKKD_UNROLL
  for (int pass = 0; pass < PixelLayout::kPasses; ++pass) {
    gradient_sums[PixelLayout::FirstTerm() / 4][PixelLayout::Item(pass)] = gradient_sum[pass];
  }
  const bool by_formula = __syncthreads_or(!finite);  // saturation would hide a NaN

  PKKD_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int row = Tile::Row(i), offset = placements[row].result;
    if (offset < 0) continue;
    float all_gradients = 0;
    PKKD_UNROLL
    for (int part = 0; part < kDepth / 4; ++part) all_gradients += gradient_sums[part][row];
    PKKD_UNROLL
    for (int j = 0; j < Tile::kColumns; j += 4) {
      const int column = Tile::Column(j);
      Quad<T> quad;
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        quad.v[e] = FromFloat32<T>(Terms::Result(sum[i][j + e], all_gradients));
      }
      if (arguments.x_quads && column < items) {
        StoreQuad(arguments.dx + offset + column, quad);
        continue;
      }
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        if (column + e < items) arguments.dx[offset + column + e] = quad.v[e];
      }
    }
  }
  if (!by_formula) return;
  __syncthreads();
  WriteByFormula<T, Tile>(arguments, block, Terms::kSlope);
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_INPUT_GRADIENT_CUH_
