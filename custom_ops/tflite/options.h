// The options of a custom operator AdderConv2D.
#ifndef CUSTOM_OPS_TFLITE_OPTIONS_H_
#define CUSTOM_OPS_TFLITE_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace pkkd {

enum class Numbers { kFloat32, kInt8 };

struct AdderOptions {
  int64_t stride_h, stride_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  int64_t dilation_h, dilation_w;
  int64_t groups;
  // What follows the response, each 0 (the default) or 1: y = relu(y * scale + offset + residual).
  int64_t affine, residual, relu;
  // Only and always of int8 (kernels/cpu/int8.h); the last one with a residual.
  int64_t zero, shift, low, high, residual_multiplier;
  uint32_t given;  // a bit for every option that was

  int inputs(Numbers numbers) const {
    return (numbers == Numbers::kInt8 ? 4 : 2 + 2 * affine) + residual;
  }
};

// Returns an empty string, or why `data` does not hold the options, in two sentences. A name that
// is not known is an error: a newer exporter may mean something that would be left out here.
std::string ReadOptions(const void* data, size_t size, AdderOptions* options);

// The same for options that do not belong to such an operator, or lack one that does.
std::string CheckOptions(const AdderOptions& options, Numbers numbers);

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_OPTIONS_H_
