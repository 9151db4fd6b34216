// What an AdderConv2D of int8 has beside the geometry: packed filters and the epilogue's integers.
#ifndef CUSTOM_OPS_TFLITE_INT8_PART_H_
#define CUSTOM_OPS_TFLITE_INT8_PART_H_

#include <optional>
#include <string>
#include <vector>

#include "custom_ops/kernels/cpu/int8.h"
#include "custom_ops/tflite/options.h"
#include "custom_ops/tflite/tflite_abi.h"

namespace pkkd {

// Constants are read once, in Prepare; tensors that are computed, whenever Invoke runs. The tensors
// have the right types and shapes.
class Int8Part {
 public:
  // Both return an empty string, or what is wrong, in two sentences.
  std::string Prepare(const AdderShape& shape, const TfLiteTensor& filters,
                      const TfLiteTensor& multiplier, const TfLiteTensor& bias);
  // residual may be null.
  std::string Invoke(const AdderShape& shape, const AdderOptions& options, const TfLiteTensor& x,
                     const TfLiteTensor& filters, const TfLiteTensor& multiplier,
                     const TfLiteTensor& bias, const TfLiteTensor* residual, TfLiteTensor* y,
                     const ParallelFor& parallel_for);

 private:
  std::string ReadBias(const TfLiteTensor& bias, int64_t outputs);

  std::optional<PackedFiltersInt8> filters_;
  std::vector<int32_t> multiplier_;
  std::vector<int64_t> bias_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_INT8_PART_H_
