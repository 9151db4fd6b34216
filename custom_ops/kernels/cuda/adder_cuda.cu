#include "custom_ops/kernels/cuda/adder_cuda.h"

#include "custom_ops/kernels/cuda/launch.cuh"

namespace {

// Calls call(T*) with a null pointer of the storage type.
template <typename Call>
int WithType(int type, const Call& call) {
  switch (pkkd::DataType(type)) {
    case pkkd::DataType::kFloat32:
      return call(static_cast<float*>(nullptr));
    case pkkd::DataType::kBFloat16:
      return call(static_cast<__nv_bfloat16*>(nullptr));
    case pkkd::DataType::kFloat16:
      return call(static_cast<__half*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

}  // namespace

extern "C" {

int pkkd_cuda_adder_forward(const pkkd::AdderShape* shape, int type, const void* x,
                            const void* filters, void* y, void* stream, int tile) {
  return WithType(type, [&](auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    return pkkd::LaunchForward<T>(*shape, x, filters, y, stream, tile);
  });
}

int pkkd_cuda_adder_input_gradient(const pkkd::AdderShape* shape, int type, int slope,
                                   const void* x, const void* filters, const void* gradient,
                                   void* dx, void* stream, int tile) {
  return WithType(type, [&](auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    return pkkd::LaunchInputGradient<T>(*shape, pkkd::Slope(slope), x, filters, gradient, dx,
                                        stream, tile);
  });
}

int pkkd_cuda_tiles() { return pkkd::kTiles + 1; }

const char* pkkd_cuda_error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // extern "C"
