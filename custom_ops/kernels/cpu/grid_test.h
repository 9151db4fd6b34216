// What grid_test.cc and its counterpart for the GPU, cuda/grid_test.cu, share.
#ifndef CUSTOM_OPS_KERNELS_CPU_GRID_TEST_H_
#define CUSTOM_OPS_KERNELS_CPU_GRID_TEST_H_

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/layout.h"
#include "custom_ops/kernels/cpu/number_types.h"

namespace pkkd {
namespace {

using Bytes = std::vector<char>;

struct Channels {
  int64_t inputs, groups, outputs;
};

// Exactly as long as the tensor, so that a sanitizer sees the first byte beyond it.
inline Bytes Numbers(std::mt19937* random, DataType type, int64_t count) {
  Bytes bytes(count * SizeOf(type));
  for (int64_t i = 0; i < count; ++i) {
    const float value = (int((*random)() % 511) - 255) / 64.0f;
    BFloat16 bfloat;
    Float16 half;
    FromFloat(value, &bfloat);
    FromFloat(value, &half);
    const void* from = &value;
    if (type == DataType::kBFloat16) from = &bfloat;
    if (type == DataType::kFloat16) from = &half;
    std::memcpy(bytes.data() + i * SizeOf(type), from, SizeOf(type));
  }
  return bytes;
}

struct Tensors {
  Bytes x, dy, filters;
};

inline Tensors RandomTensors(const AdderShape& s, DataType type, int64_t seed) {
  std::mt19937 random(seed);
  return {Numbers(&random, type, s.batch * s.height * s.width * s.channels),
          Numbers(&random, type, s.batch * s.output_height * s.output_width * s.outputs),
          Numbers(&random, type, s.taps() * s.group_channels() * s.outputs)};
}

// For the message about a difference.
inline std::string Text(const AdderShape& s) {
  char text[400];
  std::snprintf(text, sizeof text,
                "batch %d, image %d x %d x %d, filters %d x %d x %d, groups %d, strides %d %d, "
                "dilations %d %d, padding %d %d",
                int(s.batch), int(s.height), int(s.width), int(s.channels), int(s.kernel_height),
                int(s.kernel_width), int(s.outputs), int(s.groups), int(s.stride_height),
                int(s.stride_width), int(s.dilation_height), int(s.dilation_width),
                int(s.pad_top), int(s.pad_left));
  return text;
}

}  // namespace
}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_GRID_TEST_H_
