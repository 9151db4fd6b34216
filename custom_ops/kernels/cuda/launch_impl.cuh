// Definitions of launch.cuh.
#ifndef CUSTOM_OPS_KERNELS_CUDA_LAUNCH_IMPL_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_LAUNCH_IMPL_CUH_

#include "custom_ops/kernels/cuda/launch.cuh"

namespace pkkd {
namespace {

constexpr int64_t kMostElements = 1 << 30;  // of a tensor in one launch; also bounds every step
constexpr int kMostChannelsOfDirect = 4;

inline bool FitsInt(const AdderShape& s) {
  const int64_t limit = kMostElements / 4;
  for (const int64_t size :
       {s.height, s.width, s.channels, s.outputs, s.stride_height, s.stride_width, s.pad_top,
        s.pad_left, s.output_height, s.output_width, s.kernel_height, s.kernel_width,
        s.dilation_height, s.dilation_width}) {
    if (size > limit) return false;
  }
  return s.kernel_height * s.dilation_height <= limit &&
         s.kernel_width * s.dilation_width <= limit &&
         s.output_height * s.stride_height <= limit &&
         s.output_width * s.stride_width <= limit && s.height * s.width <= limit &&
         s.output_height * s.output_width <= limit && s.taps() <= limit &&
         s.height * s.width * s.channels <= kMostElements &&
         s.output_height * s.output_width * s.outputs <= kMostElements &&
         s.taps() * s.group_channels() * s.outputs <= kMostElements;
}

// Images of one launch.
inline int64_t ImagesAtOnce(const AdderShape& s) {
  const int64_t largest = std::max({s.height * s.width * s.channels,
                                    s.output_height * s.output_width * s.outputs, int64_t{1}});
  return kMostElements / largest;
}

inline Sizes MakeSizes(const AdderShape& s, int64_t batch) {
  return {int(batch), int(s.channels), int(s.outputs), int(s.groups), int(s.group_channels()),
          int(s.group_outputs()),
          {int(s.height), int(s.kernel_height), int(s.stride_height), int(s.dilation_height),
           int(s.pad_top), int(s.output_height)},
          {int(s.width), int(s.kernel_width), int(s.stride_width), int(s.dilation_width),
           int(s.pad_left), int(s.output_width)}};
}

inline int Processors(int* count) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

// The tile for `channels` results at each of `pixels`, in each of `groups`.
inline int Choose(int64_t pixels, int64_t channels, int64_t groups, int processors) {
  if (groups > 1 && channels <= kMostChannelsOfDirect) return kDirect;
  return ChooseTile(pixels, channels, groups, processors);
}

// Calls launch(first image, images) for parts of the batch that 32-bit offsets can reach.
template <typename Launch>
int ForPartsOfBatch(const AdderShape& shape, const Launch& launch) {
  if (!FitsInt(shape)) return cudaErrorInvalidValue;
  const int64_t step = ImagesAtOnce(shape);
  for (int64_t image = 0; image < shape.batch; image += step) {
    const int error = launch(image, std::min(step, shape.batch - image));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <typename T, typename Tile>
struct SumsOf {
  using Type = FloatSums<T, Tile>;
};
template <typename Tile>
struct SumsOf<__half, Tile> {
  using Type = HalfSums<Tile>;
};

inline bool FitsGrid(int64_t blocks) { return blocks <= 0x7fffffff; }

template <typename T>
int LaunchForwardPart(const ForwardArguments<T>& arguments, void* stream, int tile) {
  const Sizes& s = arguments.sizes;
  const int64_t pixels = int64_t{s.batch} * s.rows.output * s.columns.output;
  if (tile == kDirect) {
    const int count = int(pixels * s.outputs);
    const auto kernel = DirectForwardKernel<T>;
    PKKD_LAUNCH(kernel, CeilDiv(count, kThreads), kThreads, stream, arguments, count);
    return cudaGetLastError();
  }
  return WithTile(tile, [&](auto* of_type) -> int {
    using Tile = std::remove_pointer_t<decltype(of_type)>;
    const int64_t blocks = (pixels + Tile::kPixels - 1) / Tile::kPixels * s.groups *
                           CeilDiv(s.group_outputs, Tile::kChannels);
    if (!FitsGrid(blocks)) return cudaErrorInvalidValue;
    const auto kernel = ForwardKernel<T, Tile, typename SumsOf<T, Tile>::Type>;
    PKKD_LAUNCH(kernel, unsigned(blocks), kThreads, stream, arguments);
    return cudaGetLastError();
  });
}

template <typename T, typename Tile, typename Terms>
int LaunchGradientTile(const GradientArguments<T>& arguments, void* stream) {
  const Sizes& s = arguments.sizes;
  const int64_t phases = int64_t{PhaseCount(s.rows)} * PhaseCount(s.columns);
  const int64_t most_pixels = int64_t{s.batch} * CeilDiv(s.rows.image, s.rows.stride) *
                              CeilDiv(s.columns.image, s.columns.stride);
  const int64_t blocks = (most_pixels + Tile::kPixels - 1) / Tile::kPixels * phases * s.groups *
                         CeilDiv(s.group_channels, Tile::kChannels);
  if (!FitsGrid(blocks)) return cudaErrorInvalidValue;
  const auto kernel = InputGradientKernel<T, Tile, Terms>;
  PKKD_LAUNCH(kernel, unsigned(blocks), kThreads, stream, arguments);
  return cudaGetLastError();
}

template <typename T>
int LaunchGradientPart(const GradientArguments<T>& arguments, Slope slope, void* stream,
                       int tile) {
  const Sizes& s = arguments.sizes;
  if (tile == kDirect) {
    const int count = s.batch * s.rows.image * s.columns.image * s.channels;
    const auto kernel = DirectInputGradientKernel<T>;
    PKKD_LAUNCH(kernel, CeilDiv(count, kThreads), kThreads, stream, arguments, slope, count);
    return cudaGetLastError();
  }
  // The rare slope gets one tile, and with it a third of the code.
  if (slope == Slope::kSign) return LaunchGradientTile<T, Square, SignTerms>(arguments, stream);
  return WithTile(tile, [&](auto* of_type) {
    using Tile = std::remove_pointer_t<decltype(of_type)>;
    return LaunchGradientTile<T, Tile, ClippedTerms>(arguments, stream);
  });
}

// Rows of channels start at multiples of a quad in every tensor, for every group.
template <typename T>
bool Quads(int64_t channels, int64_t groups, std::initializer_list<const void*> tensors) {
  bool quads = channels / groups % 4 == 0;
  for (const void* tensor : tensors) quads &= IsQuadAligned<T>(tensor);
  return quads;
}

}  // namespace

template <typename T>
int LaunchForward(const AdderShape& shape, const void* x, const void* filters, void* y,
                  void* stream, int tile) {
  int processors = 1;
  const int error = tile < 0 ? Processors(&processors) : cudaSuccess;
  if (error != cudaSuccess) return error;
  return ForPartsOfBatch(shape, [&](int64_t image, int64_t images) {
    const int64_t outputs = shape.output_height * shape.output_width;
    const ForwardArguments<T> arguments = {
        MakeSizes(shape, images),
        static_cast<const T*>(x) + image * shape.height * shape.width * shape.channels,
        static_cast<const T*>(filters),
        static_cast<T*>(y) + image * outputs * shape.outputs,
        Quads<T>(shape.channels, shape.groups, {x}),
        Quads<T>(shape.outputs, shape.groups, {filters, y})};
    const int chosen = tile >= 0 ? tile : Choose(images * outputs, shape.group_outputs(),
                                                 shape.groups, processors);
    return LaunchForwardPart(arguments, stream, chosen);
  });
}

template <typename T>
int LaunchInputGradient(const AdderShape& shape, Slope slope, const void* x, const void* filters,
                        const void* gradient, void* dx, void* stream, int tile) {
  if (shape.height * shape.width == 0) return cudaSuccess;
  int processors = 1;
  const int error = tile < 0 ? Processors(&processors) : cudaSuccess;
  if (error != cudaSuccess) return error;
  return ForPartsOfBatch(shape, [&](int64_t image, int64_t images) {
    const int64_t pixels = shape.height * shape.width;
    const int64_t before = image * pixels * shape.channels;
    const int64_t outputs = shape.output_height * shape.output_width * shape.outputs;
    const GradientArguments<T> arguments = {
        MakeSizes(shape, images),
        static_cast<const T*>(x) + before,
        static_cast<const T*>(filters),
        static_cast<const T*>(gradient) + image * outputs,
        static_cast<T*>(dx) + before,
        Quads<T>(shape.channels, shape.groups, {x, dx}),
        Quads<T>(shape.outputs, shape.groups, {filters, gradient})};
    const int chosen = tile >= 0 ? tile : Choose(images * pixels, shape.group_channels(),
                                                 shape.groups, processors);
    return LaunchGradientPart(arguments, slope, stream, chosen);
  });
}

#define PKKD_INSTANTIATE_ADDER(T)                                                               \
  template int LaunchForward<T>(const AdderShape&, const void*, const void*, void*, void*, int); \
  template int LaunchInputGradient<T>(const AdderShape&, Slope, const void*, const void*,        \
                                      const void*, void*, void*, int)

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_LAUNCH_IMPL_CUH_
