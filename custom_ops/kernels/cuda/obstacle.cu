// Whether the GPUs here can run the compiled kernels, asked without creating a context.
#include <cstdio>
#include <iterator>
#include <string>

#include "custom_ops/kernels/cuda/adder_cuda.h"
#include "custom_ops/kernels/cuda/platform.cuh"

namespace {

constexpr int kCompiled[] = {__CUDA_ARCH_LIST__};

std::string Decimal(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}
std::string Version(int version) { return Decimal(version / 1000, version % 1000 / 10); }
std::string Capability(int capability) {
  return Decimal(capability / 100, capability % 100 / 10);
}

std::string ObstacleOfDriver(int driver, int runtime) {
  if (driver == 0) return "there is no CUDA driver";
  if (driver / 1000 >= runtime / 1000) return "";
  return "the driver serves CUDA " + Version(driver) + " at most, and the kernels need " +
         Decimal(runtime / 1000, 0);
}

// Code for a capability runs on those of the same major version from there on; the PTX of the
// newest also on all later ones, by a driver that knows the PTX of this toolkit.
std::string ObstacleOfDevice(int driver, int runtime, int capability, const int* compiled,
                             int count) {
  std::string list;
  for (int i = 0; i < count; ++i) {
    if (capability / 100 == compiled[i] / 100 && capability >= compiled[i]) return "";
    list += (i == 0 ? "" : ", ") + Capability(compiled[i]);
  }
  const std::string device = "a device has compute capability " + Capability(capability);
  if (capability < compiled[count - 1]) {
    return device + ", and the kernels were compiled for " + list + " and later";
  }
  if (driver >= runtime) return "";
  return device + ", for which a driver of CUDA " + Version(runtime) +
         " must compile the kernels, and this one serves " + Version(driver);
}

std::string ObstacleOf(int driver, int runtime, int capability, const int* compiled, int count) {
  const std::string text = ObstacleOfDriver(driver, runtime);
  if (!text.empty()) return text;
  return ObstacleOfDevice(driver, runtime, capability, compiled, count);
}

// Of the first device with one; also says which call fails.
std::string Obstacle() {
  int driver = 0, runtime = 0, devices = 0, major = 0, minor = 0;
  cudaError_t error = cudaDriverGetVersion(&driver);
  if (error == cudaSuccess) error = cudaRuntimeGetVersion(&runtime);
  std::string text = error == cudaSuccess ? ObstacleOfDriver(driver, runtime) : "";
  if (error == cudaSuccess && text.empty()) error = cudaGetDeviceCount(&devices);
  for (int i = 0; i < devices && error == cudaSuccess && text.empty(); ++i) {
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
    if (error != cudaSuccess) break;
    error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i);
    const int capability = 100 * major + 10 * minor;
    text = ObstacleOf(driver, runtime, capability, kCompiled, std::size(kCompiled));
  }
  return error == cudaSuccess ? text : std::string("CUDA says: ") + cudaGetErrorString(error);
}

}  // namespace

extern "C" {

const char* pkkd_cuda_obstacle() {
  static const std::string text = Obstacle();
  return text.empty() ? nullptr : text.c_str();
}

void pkkd_cuda_obstacle_of(int driver, int runtime, int capability, const int* compiled, int count,
                           char* text, int size) {
  std::snprintf(text, size, "%s",
                ObstacleOf(driver, runtime, capability, compiled, count).c_str());
}

}  // extern "C"
