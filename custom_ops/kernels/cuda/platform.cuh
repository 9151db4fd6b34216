// CUDA, or its emulation on the processor (emulation.h), for the kernels of this folder.
#ifndef CUSTOM_OPS_KERNELS_CUDA_PLATFORM_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_PLATFORM_CUH_

#include <cstdint>

#ifdef PKKD_CUDA_EMULATION
#include "custom_ops/kernels/cuda/emulation.h"
#define PKKD_UNROLL
#define PKKD_UNROLL_4
#define PKKD_NO_UNROLL
#define __noinline__
#define __grid_constant__
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define PKKD_UNROLL _Pragma("unroll")
#define PKKD_UNROLL_4 _Pragma("unroll 4")
#define PKKD_NO_UNROLL _Pragma("unroll 1")
#define PKKD_LAUNCH(kernel, blocks, threads, stream, ...) \
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#endif

namespace pkkd {

__device__ __forceinline__ float ToFloat32(float value) { return value; }
__device__ __forceinline__ float ToFloat32(__half value) { return __half2float(value); }
__device__ __forceinline__ float ToFloat32(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename T>
__device__ __forceinline__ T FromFloat32(float value);
template <>
__device__ __forceinline__ float FromFloat32<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half FromFloat32<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat32<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Four neighbours, moved by one instruction.
template <typename T>
struct alignas(4 * sizeof(T)) Quad {
  T v[4];
};

template <typename T>
__device__ __forceinline__ Quad<T> LoadQuad(const T* from) {
  return *reinterpret_cast<const Quad<T>*>(from);
}

template <typename T>
__device__ __forceinline__ void StoreQuad(T* to, const Quad<T>& quad) {
  *reinterpret_cast<Quad<T>*>(to) = quad;
}

template <typename T>
inline bool IsQuadAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % sizeof(Quad<T>) == 0;
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_PLATFORM_CUH_
