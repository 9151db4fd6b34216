// What the parts of grid_test.cu share: device memory and the comparison.
#ifndef CUSTOM_OPS_KERNELS_CUDA_GRID_TEST_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_GRID_TEST_CUH_

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "custom_ops/kernels/cpu/grid_test.h"
#include "custom_ops/kernels/cpu/number_types.h"
#include "custom_ops/kernels/cuda/adder_cuda.h"
#include "custom_ops/kernels/cuda/platform.cuh"

namespace pkkd {
namespace {

int64_t comparisons = 0;
double largest_half_error = 0;

inline void CheckCuda(int error) {
  if (error == 0) return;
  std::printf("CUDA: %s\n", pkkd_cuda_error_text(error));
  std::exit(1);
}

// Device memory for a tensor; `shift` bytes before it keep it from being aligned.
class DeviceTensor {
 public:
  DeviceTensor(const Bytes& bytes, int64_t shift) : size_(bytes.size()), shift_(shift) {
    CheckCuda(cudaMalloc(&memory_, shift + size_ + (size_ + shift == 0)));
    CheckCuda(cudaMemcpy(data(), bytes.data(), size_, cudaMemcpyHostToDevice));
  }
  DeviceTensor(const DeviceTensor&) = delete;
  ~DeviceTensor() { cudaFree(memory_); }

  void* data() const { return static_cast<char*>(memory_) + shift_; }
  Bytes Read() const {
    Bytes bytes(size_);
    CheckCuda(cudaMemcpy(bytes.data(), data(), size_, cudaMemcpyDeviceToHost));
    return bytes;
  }

 private:
  void* memory_ = nullptr;
  size_t size_, shift_;
};

inline float NumberAt(const Bytes& bytes, DataType type, int64_t index) {
  float value;
  uint16_t bits;
  std::memcpy(&bits, bytes.data() + index * SizeOf(type), 2);
  if (type == DataType::kBFloat16) return ToFloat(BFloat16{bits});
  if (type == DataType::kFloat16) return ToFloat(Float16{bits});
  std::memcpy(&value, bytes.data() + index * SizeOf(type), 4);
  return value;
}

// NaN, which a kernel must overwrite everywhere.
inline Bytes Poison(size_t size) { return Bytes(size, char(0xff)); }

inline void Expect(const Bytes& actual, const Bytes& expected, DataType type, double tolerance,
                   const char* what, int tile, const AdderShape& s) {
  ++comparisons;
  for (size_t i = 0; i < expected.size() / SizeOf(type); ++i) {
    const double e = NumberAt(expected, type, i), a = NumberAt(actual, type, i);
    const double error = std::fabs(a - e) / std::fmax(std::fabs(e), 1e-9);
    if (tolerance > 0) largest_half_error = std::fmax(largest_half_error, error);
    if (a == e || error < tolerance) continue;
    std::printf("%s differs at %d: %g instead of %g; type %d, tile %d, %s\n", what, int(i), a, e,
                int(type), tile, Text(s).c_str());
    std::exit(1);
  }
}

}  // namespace
}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_GRID_TEST_CUH_
