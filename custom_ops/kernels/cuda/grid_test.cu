// Every GPU kernel and tile against the plain loops over a grid of shapes, as one program: on a GPU
// (`python -m custom_ops.build_cuda --grid_test`), under its sanitizers, or emulated.
//
//   grid_test [n]      every n-th shape of the grid; n should have no factor 3 or 11
//
// Numbers are multiples of 1/64 below 4, so that float32 sums are exact and nothing is tolerated;
// the float16 forward pass, which adds in float16, may err by 2e-3 of the response. Tensors are as
// long as they must be, and start once where quads can be read and once where they cannot. On a
// GPU, the whole grid ends with a batch that takes two launches.
#include <cstdio>
#include <cstdlib>

#include "custom_ops/kernels/cpu/reference.h"
#include "custom_ops/kernels/cuda/grid_test.cuh"
#ifndef PKKD_CUDA_EMULATION
#include "custom_ops/kernels/cuda/large_batch_test.cuh"
#endif

namespace pkkd {
namespace {

int64_t shapes = 0, taken = 0, every = 1;

void CheckForward(const AdderShape& s, DataType type, int tile, int64_t shift, const Bytes& x,
                  const Bytes& f, const Bytes& expected) {
  const DeviceTensor device_x(x, shift), device_f(f, shift), y(Poison(expected.size()), shift);
  CheckCuda(pkkd_cuda_adder_forward(&s, int(type), device_x.data(), device_f.data(), y.data(),
                                    nullptr, tile));
  CheckCuda(cudaDeviceSynchronize());
  const bool exact = type != DataType::kFloat16 || tile == pkkd_cuda_tiles() - 1;
  Expect(y.Read(), expected, type, exact ? 0 : 2e-3, "forward", tile, s);
}

void CheckInputGradient(const AdderShape& s, DataType type, Slope slope, int tile, int64_t shift,
                        const Bytes& x, const Bytes& f, const Bytes& dy, const Bytes& expected) {
  const DeviceTensor device_x(x, shift), device_f(f, shift), device_dy(dy, shift);
  const DeviceTensor dx(Poison(x.size()), shift);
  CheckCuda(pkkd_cuda_adder_input_gradient(&s, int(type), int(slope), device_x.data(),
                                           device_f.data(), device_dy.data(), dx.data(), nullptr,
                                           tile));
  CheckCuda(cudaDeviceSynchronize());
  Expect(dx.Read(), expected, type, 0, "input gradient", tile, s);
}

void Check(const AdderShape& s, DataType type) {
  if (shapes++ % every != 0) return;
  ++taken;
  const auto [x, dy, f] = RandomTensors(s, type, shapes);
  Bytes y(dy.size()), dx(x.size());
  AdderForwardReference(s, type, x.data(), f.data(), y.data());
  for (int tile = -1; tile < pkkd_cuda_tiles(); ++tile) {
    for (const int64_t shift : {0, 1}) {
      CheckForward(s, type, tile, shift * SizeOf(type), x, f, y);
    }
  }
  for (const Slope slope : {Slope::kClipped, Slope::kSign}) {
    for (int64_t image = 0; image < s.batch; ++image) {
      AdderInputGradientReference(s, type, slope, x.data(), f.data(), dy.data(), dx.data(), image,
                                  0, s.height);
    }
    for (int tile = slope == Slope::kSign ? pkkd_cuda_tiles() - 2 : -1; tile < pkkd_cuda_tiles();
         ++tile) {
      for (const int64_t shift : {0, 1}) {
        CheckInputGradient(s, type, slope, tile, shift * SizeOf(type), x, f, dy, dx);
      }
    }
  }
}

void CheckGeometries(const Channels& channels, int64_t kernel, DataType type) {
  for (const int64_t stride : {1, 2, 3}) {
    for (const int64_t dilation : {1, 2, 3}) {
      for (const int64_t padding : {0, 1, 4}) {  // before; one pixel more behind
        const int64_t height = 9, width = 7, batch = (stride + dilation + padding) % 4;
        const int64_t window = (kernel - 1) * dilation + 1, pads = 2 * padding + (padding > 0);
        const int64_t across = stride % kernel + 1;  // the other stride
        const AdderShape s = {batch, height, width, channels.inputs, kernel, kernel,
                              channels.outputs, channels.groups, stride, across, dilation,
                              dilation, padding, padding, (height + pads - window) / stride + 1,
                              (width + pads - window) / across + 1};
        Check(s, type);
      }
    }
  }
}

void CheckTypes() {
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    for (const Channels& channels :
         {Channels{1, 1, 1}, {3, 1, 5}, {6, 6, 6}, {5, 5, 10}, {8, 8, 64}, {16, 1, 33}, {12, 3, 24},
          {33, 1, 16}, {34, 2, 18}, {64, 1, 20}, {20, 1, 68}}) {
      for (const int64_t kernel : {1, 2, 3}) CheckGeometries(channels, kernel, type);
      std::printf("type %d, channels %d -> %d, groups %d: right; shapes so far: %d\n", int(type),
                  int(channels.inputs), int(channels.outputs), int(channels.groups), int(taken));
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace pkkd

int main(int count, char** arguments) {
  if (count > 1) pkkd::every = std::atoi(arguments[1]);
  if (pkkd::every < 1) {
    std::printf("n must be a positive number. Received: n=%s\n", arguments[1]);
    return 2;
  }
  if (const char* obstacle = pkkd_cuda_obstacle()) {
    std::printf("The GPU must run the kernels. Received: %s\n", obstacle);
    return 1;
  }
  pkkd::CheckTypes();
#ifndef PKKD_CUDA_EMULATION
  if (pkkd::every == 1) pkkd::CheckLargeBatch();  // not under the tools, which take a part
#endif
  std::printf("%d comparisons of %d shapes; largest relative error of the float16 forward pass "
              "%.2g\n",
              int(pkkd::comparisons), int(pkkd::taken), pkkd::largest_half_error);
}
