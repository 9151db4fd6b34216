// Device memory and time as C functions, for tests and timings without a framework. Each returns 0
// or a cudaError_t, which pkkd_cuda_error_text puts into words.
#include <cstdio>

#include "custom_ops/kernels/cuda/platform.cuh"

extern "C" {

int pkkd_cuda_device_name(char* name, int size) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, 0);
  if (error == cudaSuccess) std::snprintf(name, size, "%s", properties.name);
  return error;
}

// An empty tensor gets an address too.
int pkkd_cuda_allocate(void** memory, int64_t bytes) {
  return cudaMalloc(memory, bytes + (bytes == 0));
}
int pkkd_cuda_free(void* memory) { return cudaFree(memory); }
int pkkd_cuda_fill(void* memory, int value, int64_t bytes) {
  return cudaMemset(memory, value, bytes);
}
int pkkd_cuda_to_device(void* to, const void* from, int64_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice);
}
int pkkd_cuda_to_host(void* to, const void* from, int64_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost);
}

int pkkd_cuda_event_create(void** event) {
  return cudaEventCreate(reinterpret_cast<cudaEvent_t*>(event));
}
int pkkd_cuda_event_record(void* event) {
  return cudaEventRecord(static_cast<cudaEvent_t>(event), nullptr);
}

// Waits for the second event.
int pkkd_cuda_event_milliseconds(void* first, void* second, float* milliseconds) {
  const cudaError_t error = cudaEventSynchronize(static_cast<cudaEvent_t>(second));
  if (error != cudaSuccess) return error;
  return cudaEventElapsedTime(milliseconds, static_cast<cudaEvent_t>(first),
                              static_cast<cudaEvent_t>(second));
}

}  // extern "C"
