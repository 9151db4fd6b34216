// A batch of more elements than one launch takes (launch_impl.cuh): for GPUs, on which its tensors
// fit.
#ifndef CUSTOM_OPS_KERNELS_CUDA_LARGE_BATCH_TEST_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_LARGE_BATCH_TEST_CUH_

#include <iterator>

#include "custom_ops/kernels/cpu/reference.h"
#include "custom_ops/kernels/cuda/grid_test.cuh"

namespace pkkd {
namespace {

// 2^30 + 2^22 elements; the second launch has the last image.
constexpr AdderShape kLargeBatch = {257, 1024, 1024, 4, 3, 3, 4, 1, 2, 2, 1, 1, 1, 1, 512, 512};
constexpr int64_t kPlaces[] = {0, 255, 256};  // of the images that are compared
constexpr size_t kLargeBatchBytes = size_t{6} << 30;

// Device memory of all images: `images` at kPlaces, in the others `fill` in every byte.
class LargeTensor {
 public:
  LargeTensor(const Bytes& images, int fill) : size_(images.size() / std::size(kPlaces)) {
    CheckCuda(cudaMalloc(&memory_, kLargeBatch.batch * size_));
    CheckCuda(cudaMemset(memory_, fill, kLargeBatch.batch * size_));
    for (size_t i = 0; i < std::size(kPlaces); ++i) {
      CheckCuda(cudaMemcpy(Image(i), images.data() + i * size_, size_, cudaMemcpyHostToDevice));
    }
  }
  LargeTensor(const LargeTensor&) = delete;
  ~LargeTensor() { cudaFree(memory_); }

  void* data() const { return memory_; }
  Bytes Read() const {
    Bytes images(std::size(kPlaces) * size_);
    for (size_t i = 0; i < std::size(kPlaces); ++i) {
      CheckCuda(cudaMemcpy(images.data() + i * size_, Image(i), size_, cudaMemcpyDeviceToHost));
    }
    return images;
  }

 private:
  void* Image(size_t i) const { return static_cast<char*>(memory_) + kPlaces[i] * size_; }

  void* memory_ = nullptr;
  size_t size_;
};

inline void CheckLargeForward(const Tensors& t, const Bytes& expected, DataType type) {
  const DeviceTensor f(t.filters, 0);
  const LargeTensor x(t.x, 0);
  for (int tile = -1; tile < pkkd_cuda_tiles(); ++tile) {
    const LargeTensor y(Poison(expected.size()), 0xff);
    CheckCuda(pkkd_cuda_adder_forward(&kLargeBatch, int(type), x.data(), f.data(), y.data(),
                                      nullptr, tile));
    CheckCuda(cudaDeviceSynchronize());
    Expect(y.Read(), expected, type, 0, "forward", tile, kLargeBatch);
  }
}

inline void CheckLargeInputGradient(const Tensors& t, const Bytes& expected, DataType type) {
  const DeviceTensor f(t.filters, 0);
  const LargeTensor x(t.x, 0), dy(t.dy, 0);
  for (int tile = -1; tile < pkkd_cuda_tiles(); ++tile) {
    const LargeTensor dx(Poison(expected.size()), 0xff);
    CheckCuda(pkkd_cuda_adder_input_gradient(&kLargeBatch, int(type), int(Slope::kClipped),
                                             x.data(), f.data(), dy.data(), dx.data(), nullptr,
                                             tile));
    CheckCuda(cudaDeviceSynchronize());
    Expect(dx.Read(), expected, type, 0, "input gradient", tile, kLargeBatch);
  }
}

inline void CheckLargeBatch() {
  size_t free = 0, total = 0;
  CheckCuda(cudaMemGetInfo(&free, &total));
  if (free < kLargeBatchBytes) {
    std::printf("the large batch is left out: it takes 6 GiB. Received: %.1f GiB free\n",
                double(free) / (1 << 30));
    return;
  }
  const DataType type = DataType::kBFloat16;
  AdderShape compared = kLargeBatch;
  compared.batch = std::size(kPlaces);
  const Tensors t = RandomTensors(compared, type, 0);
  Bytes y(t.dy.size()), dx(t.x.size());
  AdderForwardReference(compared, type, t.x.data(), t.filters.data(), y.data());
  for (int64_t image = 0; image < compared.batch; ++image) {
    AdderInputGradientReference(compared, type, Slope::kClipped, t.x.data(), t.filters.data(),
                                t.dy.data(), dx.data(), image, 0, compared.height);
  }
  CheckLargeForward(t, y, type);
  CheckLargeInputGradient(t, dx, type);
  std::printf("a batch of more than 2^30 elements: right\n");
}

}  // namespace
}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_LARGE_BATCH_TEST_CUH_
