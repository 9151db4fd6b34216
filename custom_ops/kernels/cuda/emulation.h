// As much of CUDA as the kernels of this folder use, on the processor: to test them where there is
// no GPU. `python -m custom_ops.build_cuda --emulate` compiles the same sources with it.
//
// The threads of a block are fibers that change places at barriers; every other block runs them in
// the reverse order, so a missing barrier shows as a wrong result. Shared memory is static memory
// of exactly its size, so the address sanitizer sees what goes beyond it. Arithmetic is rounded as
// on the GPU. Not emulated: warps, memory order finer than barriers, speed.
#ifndef CUSTOM_OPS_KERNELS_CUDA_EMULATION_H_
#define CUSTOM_OPS_KERNELS_CUDA_EMULATION_H_

#include <ucontext.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#include "custom_ops/kernels/cpu/number_types.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct EmulatedIndex {
  unsigned x;
};
inline EmulatedIndex threadIdx, blockIdx;

namespace pkkd {

// Runs blocks one after the other.
class Emulator {
 public:
  static Emulator& Get() {
    static Emulator emulator;
    return emulator;
  }

  void Launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    while (fibers_.size() < threads) fibers_.push_back(std::make_unique<Fiber>());
    kernel_ = &kernel;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) RunBlock(threads);
  }

  // Called by a fiber: the others run up to their barrier.
  void Barrier() { Leave(&fibers_[threadIdx.x]->context, &fibers_[threadIdx.x]->fake_stack); }

  bool vote = false;

 private:
  static constexpr size_t kStack = 256 * 1024;
  enum State { kWaiting, kDone };

  struct Fiber {
    Fiber() : stack(kStack) {
      getcontext(&context);
      context.uc_stack.ss_sp = stack.data();
      context.uc_stack.ss_size = kStack;
      makecontext(&context, [] { Get().RunThreads(); }, 0);
    }
    std::vector<char> stack;
    ucontext_t context;
    void* fake_stack = nullptr;
    State state = kDone;
  };

  // What a fiber does, for all blocks.
  void RunThreads() {
    FinishSwitch(nullptr);
    for (;;) {
      (*kernel_)();
      Fiber& fiber = *fibers_[threadIdx.x];
      fiber.state = kDone;
      Leave(&fiber.context, &fiber.fake_stack);
    }
  }

  void RunBlock(unsigned threads) {
    unsigned done = 0;
    while (done == 0) {
      for (unsigned i = 0; i < threads; ++i) {
        threadIdx.x = blockIdx.x % 2 ? threads - 1 - i : i;
        Fiber& fiber = *fibers_[threadIdx.x];
        fiber.state = kWaiting;
        Enter(&fiber);
        done += fiber.state == kDone;
      }
    }
    if (done == threads) return;
    std::fprintf(stderr, "threads of a block must reach the same barriers\n");
    std::abort();
  }

  void Enter(Fiber* fiber) {
    StartSwitch(&fake_stack_, fiber->stack.data(), kStack);
    swapcontext(&context_, &fiber->context);
    FinishSwitch(fake_stack_);
  }

  void Leave(ucontext_t* from, void** fake_stack) {
    StartSwitch(fake_stack, bottom_, size_);
    swapcontext(from, &context_);
    FinishSwitch(*fake_stack);
  }

#if defined(__SANITIZE_ADDRESS__)
  static void StartSwitch(void** fake_stack, const void* bottom, size_t size) {
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
  }
  // On entering a fiber, remembers the stack it came from.
  void FinishSwitch(void* fake_stack) {
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (bottom_ == nullptr) {
      bottom_ = bottom;
      size_ = size;
    }
  }
#else
  static void StartSwitch(void**, const void*, size_t) {}
  void FinishSwitch(void*) {}
#endif

  std::vector<std::unique_ptr<Fiber>> fibers_;
  const std::function<void()>* kernel_ = nullptr;
  ucontext_t context_;
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;  // the stack of Launch
  size_t size_ = 0;
};

}  // namespace pkkd

#define PKKD_LAUNCH(kernel, blocks, threads, stream, ...) \
  (void(stream), pkkd::Emulator::Get().Launch(blocks, threads, [&] { kernel(__VA_ARGS__); }))

inline void __syncthreads() { pkkd::Emulator::Get().Barrier(); }

inline int __syncthreads_or(int predicate) {
  bool& vote = pkkd::Emulator::Get().vote;
  vote = vote || predicate != 0;
  __syncthreads();
  const bool result = vote;
  __syncthreads();
  vote = false;
  __syncthreads();
  return result;
}

// Numbers.

inline float __saturatef(float value) { return value > 0 ? (value < 1 ? value : 1) : 0; }
inline unsigned __float_as_uint(float value) { return pkkd::Bits(value); }
inline float __uint_as_float(unsigned bits) { return pkkd::FromBits(bits); }

struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half2 {
  __half x, y;
};
struct float2 {
  float x, y;
};

inline float __half2float(__half value) { return pkkd::ToFloat(pkkd::Float16{value.bits}); }
inline float __bfloat162float(__nv_bfloat16 value) {
  return pkkd::ToFloat(pkkd::BFloat16{value.bits});
}
inline __half __float2half_rn(float value) {
  pkkd::Float16 half;
  pkkd::FromFloat(value, &half);
  return {half.bits};
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  pkkd::BFloat16 number;
  pkkd::FromFloat(value, &number);
  return {number.bits};
}
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half2 __float2half2_rn(float value) { return __half2half2(__float2half_rn(value)); }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }

// Rounded once: a float32 sum of two float16 numbers is rounded to float16 as the exact one is.
inline __half2 __hadd2(__half2 a, __half2 b) {
  return {__float2half_rn(__half2float(a.x) + __half2float(b.x)),
          __float2half_rn(__half2float(a.y) + __half2float(b.y))};
}
inline __half2 __habs2(__half2 a) {
  a.x.bits &= 0x7fff;
  a.y.bits &= 0x7fff;
  return a;
}
inline __half2 __hsub2(__half2 a, __half2 b) {
  b.x.bits ^= 0x8000;
  b.y.bits ^= 0x8000;
  return __hadd2(a, b);
}

// A device of three multiprocessors, so that small tests meet several tiles; of capability 9.0.

#define __CUDA_ARCH_LIST__ 900

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
enum cudaDeviceAttr {  // with their values on this device
  cudaDevAttrMultiProcessorCount = 3,
  cudaDevAttrComputeCapabilityMajor = 9,
  cudaDevAttrComputeCapabilityMinor = 0
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
inline cudaError_t cudaMalloc(void** memory, size_t size) {
  *memory = std::malloc(size);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  if (size > 0) std::memcpy(to, from, size);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* memory, int value, size_t size) {
  std::memset(memory, value, size);
  return cudaSuccess;
}

struct cudaDeviceProp {
  char name[256];
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::snprintf(properties->name, sizeof properties->name, "emulated");
  return cudaSuccess;
}

struct EmulatedEvent {
  std::chrono::steady_clock::time_point time;
};
using cudaEvent_t = EmulatedEvent*;
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, void*) {
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first,
                                        cudaEvent_t second) {
  *milliseconds = std::chrono::duration<float, std::milli>(second->time - first->time).count();
  return cudaSuccess;
}

#endif  // CUSTOM_OPS_KERNELS_CUDA_EMULATION_H_
