// Y[n,p,q,o] = -sum |X - F| as an implicit matrix product: rows are pixels (n, p, q), columns are
// filters, the sum runs over k = (i, j, c). Inner loop: subtract, add the absolute value.
#ifndef CUSTOM_OPS_KERNELS_CUDA_FORWARD_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_FORWARD_CUH_

#include "custom_ops/kernels/cuda/arguments.cuh"
#include "custom_ops/kernels/cuda/gather.cuh"

namespace pkkd {

// Sums of one thread in float32, from tiles in float32. Two terms are added first: that makes as
// many additions, but half as many roundings of the large sum.
template <typename T, typename Tile>
struct FloatSums {
  static constexpr int kDepth = 8;
  static constexpr int kBlocks = Tile::kColumns == 8 ? 3 : Tile::kPixels == 256 ? 4 : 5;  // at once
  using PixelCell = float;
  using FilterCell = float;
  static __device__ __forceinline__ float Pixel(T value, int) { return ToFloat32(value); }
  static __device__ __forceinline__ float Filter(T value) { return ToFloat32(value); }

  template <int kPixelPitch, int kFilterPitch>
  __device__ __forceinline__ void Add(const float (*pixels)[kPixelPitch],
                                      const float (*filters)[kFilterPitch]) {
    PKKD_UNROLL
    for (int k = 0; k < kDepth; k += 2) {
      Quad<float> x[2][Tile::kRows / 4], f[2][Tile::kColumns / 4];
      PKKD_UNROLL
      for (int e = 0; e < 2; ++e) {
        PKKD_UNROLL
        for (int i = 0; i < Tile::kRows; i += 4) {
          x[e][i / 4] = LoadQuad(&pixels[k + e][Tile::Row(i)]);
        }
        PKKD_UNROLL
        for (int j = 0; j < Tile::kColumns; j += 4) {
          f[e][j / 4] = LoadQuad(&filters[k + e][Tile::Column(j)]);
        }
      }
      PKKD_UNROLL
      for (int i = 0; i < Tile::kRows; ++i) {
        PKKD_UNROLL
        for (int j = 0; j < Tile::kColumns; ++j) {
          const float first = x[0][i / 4].v[i % 4] - f[0][j / 4].v[j % 4];
          const float second = x[1][i / 4].v[i % 4] - f[1][j / 4].v[j % 4];
          sum[i][j] += fabsf(first) + fabsf(second);
        }
      }
    }
  }

  float sum[Tile::kRows][Tile::kColumns] = {};
};

// Pairs of filters in float16, added up in float32 after every tile. No partial sum overflows
// unless the response does, which is the larger one.
template <typename Tile>
struct HalfSums {
  static constexpr int kDepth = 16;
  static constexpr int kBlocks = Tile::kColumns == 8 ? 3 : 4;
  using PixelCell = __half2;        // one pixel twice
  using FilterCell = __half;
  static __device__ __forceinline__ __half2 Pixel(__half value, int) {
    return __half2half2(value);
  }
  static __device__ __forceinline__ __half Filter(__half value) { return value; }

  template <int kPixelPitch, int kFilterPitch>
  __device__ __forceinline__ void Add(const __half2 (*pixels)[kPixelPitch],
                                      const __half (*filters)[kFilterPitch]) {
    __half2 partial[Tile::kRows][Tile::kColumns / 2] = {};
    PKKD_UNROLL
    for (int k = 0; k < kDepth; k += 2) {
      Quad<__half2> x[2][Tile::kRows / 4];
      PairQuad f[2][Tile::kColumns / 4];
      PKKD_UNROLL
      for (int e = 0; e < 2; ++e) {
        PKKD_UNROLL
        for (int i = 0; i < Tile::kRows; i += 4) {
          x[e][i / 4] = LoadQuad(&pixels[k + e][Tile::Row(i)]);
        }
        PKKD_UNROLL
        for (int j = 0; j < Tile::kColumns; j += 4) {
          f[e][j / 4] = *reinterpret_cast<const PairQuad*>(&filters[k + e][Tile::Column(j)]);
        }
      }
      PKKD_UNROLL
      for (int i = 0; i < Tile::kRows; ++i) {
        PKKD_UNROLL
        for (int j = 0; j < Tile::kColumns / 2; ++j) {
          const __half2 first = __hsub2(x[0][i / 4].v[i % 4], f[0][j / 2].v[j % 2]);
          const __half2 second = __hsub2(x[1][i / 4].v[i % 4], f[1][j / 2].v[j % 2]);
          partial[i][j] = __hadd2(partial[i][j], __hadd2(__habs2(first), __habs2(second)));
        }
      }
    }
    PKKD_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      PKKD_UNROLL
      for (int j = 0; j < Tile::kColumns / 2; ++j) {
        const float2 pair = __half22float2(partial[i][j]);
        sum[i][2 * j] += pair.x;
        sum[i][2 * j + 1] += pair.y;
      }
    }
  }

  struct alignas(8) PairQuad {
    __half2 v[2];
  };
  float sum[Tile::kRows][Tile::kColumns] = {};
};

// Blocks: tiles of filters fastest, then groups, then tiles of pixels.
template <typename T, typename Tile, typename Sums>
__global__ void __launch_bounds__(kThreads, Sums::kBlocks)
    ForwardKernel(const ForwardArguments<T> arguments) {
  using PixelLoader = Pixels<T, Tile::kPixels, Sums::kDepth>;
  using FilterLoader = FilterRows<T, Tile::kChannels, Sums::kDepth>;
  using Layout = typename PixelLoader::Layout;
  alignas(16) __shared__
      typename Sums::PixelCell pixel_tiles[2][Sums::kDepth][Layout::kPitch];
  alignas(16) __shared__
      typename Sums::FilterCell filter_tiles[2][Sums::kDepth][FilterLoader::kPitch];
  __shared__ Placement placements[Tile::kPixels];

  const Sizes& s = arguments.sizes;
  const int across = CeilDiv(s.group_outputs, Tile::kChannels);
  const int group = blockIdx.x / across % s.groups;
  const int first_output = blockIdx.x % across * Tile::kChannels;
  const int first_pixel = blockIdx.x / across / s.groups * Tile::kPixels;
  const int pixels = s.batch * s.rows.output * s.columns.output;
  const int outputs = s.group_outputs - first_output;
  const int channel = group * s.group_outputs + first_output;
  const Image image = {s.rows.image,     s.columns.image,     s.channels,
                       s.rows.dilation,  s.columns.dilation,  s.rows.kernel,
                       s.columns.kernel, s.group_channels};
  const T* const x = arguments.x + group * s.group_channels;
  const T* const filters = arguments.filters + channel;

  for (int i = threadIdx.x; i < Tile::kPixels; i += kThreads) {
    const int pixel = first_pixel + i;
    const int row = pixel / s.columns.output, n = row / s.rows.output;
    const Placement place = {n, row % s.rows.output * s.rows.stride - s.rows.pad,
                             pixel % s.columns.output * s.columns.stride - s.columns.pad,
                             pixel * s.outputs + channel};
    placements[i] = pixel < pixels ? place : kNowhere;
  }
  __syncthreads();

  PixelLoader pixel_loader;
  FilterLoader filter_loader;
  Sums sums;
  Term term = {0, 0, 0};
  image.Advance(Layout::FirstTerm(), &term);
  const int terms = image.terms();
  const auto fetch = [&](int first_term) {
    if (arguments.x_quads) pixel_loader.FetchQuads(image, placements, x, term);
    if (!arguments.output_quads) return;
    filter_loader.FetchQuads(filters, s.outputs, first_term, terms, outputs);
  };
  const auto store = [&](int first_term, int buffer) {
    auto* const pixel_tile = pixel_tiles[buffer];
    auto* const filter_tile = filter_tiles[buffer];
    if (arguments.x_quads) {
      pixel_loader.StoreQuads(pixel_tile, Sums::Pixel);
    } else {
      PixelLoader::Move(image, placements, x, term, pixel_tile, Sums::Pixel);
    }
    if (arguments.output_quads) {
      filter_loader.StoreQuads(filter_tile, Sums::Filter);
    } else {
      FilterLoader::Move(filters, s.outputs, first_term, terms, outputs, filter_tile,
                         Sums::Filter);
    }
    image.Advance(Sums::kDepth, &term);
    __syncthreads();
  };

  int buffer = 0;
  fetch(0);
  store(0, 0);
  for (int next = Sums::kDepth;; next += Sums::kDepth) {
    const bool is_last = next >= terms;
    if (!is_last) fetch(next);
    sums.Add(pixel_tiles[buffer], filter_tiles[buffer]);
    if (is_last) break;
    buffer ^= 1;
    store(next, buffer);
  }

  PKKD_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int result = placements[Tile::Row(i)].result;
    if (result < 0) continue;
    T* const y = arguments.y + result;
    PKKD_UNROLL
    for (int j = 0; j < Tile::kColumns; j += 4) {
      Quad<T> quad;
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) quad.v[e] = FromFloat32<T>(0 - sums.sum[i][j + e]);
      const int column = Tile::Column(j);
      if (arguments.output_quads && column < outputs) {
        StoreQuad(y + column, quad);
        continue;
      }
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        if (column + e < outputs) y[column + e] = quad.v[e];
      }
    }
  }
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_FORWARD_CUH_
