#include "custom_ops/tflite/int8_part.h"

#include <cstring>

namespace pkkd {
namespace {

size_t FilterBytes(const AdderShape& s) { return s.taps() * s.group_channels() * s.outputs; }

const int8_t* Bytes(const TfLiteTensor& tensor) { return static_cast<const int8_t*>(tensor.data); }

// A copy, since the numbers of a file may lie anywhere.
template <typename T>
std::vector<T> Copied(const TfLiteTensor& tensor, int64_t count) {
  std::vector<T> numbers(count);
  std::memcpy(numbers.data(), tensor.data, count * sizeof(T));
  return numbers;
}

}  // namespace

std::string Int8Part::Prepare(const AdderShape& shape, const TfLiteTensor& filters,
                              const TfLiteTensor& multiplier, const TfLiteTensor& bias) {
  const int64_t terms = shape.taps() * shape.group_channels();
  if (terms > kMostInt8Terms) {
    return "A window of AdderConv2D of int8 must hold at most " + std::to_string(kMostInt8Terms) +
           " numbers. Received: " + std::to_string(terms);
  }
  if (IsConstant(filters, FilterBytes(shape))) filters_ = PackFiltersInt8(shape, Bytes(filters));
  if (IsConstant(multiplier, shape.outputs * sizeof(int32_t))) {
    multiplier_ = Copied<int32_t>(multiplier, shape.outputs);
  }
  const bool has_bias = IsConstant(bias, shape.outputs * sizeof(int64_t));
  return has_bias ? ReadBias(bias, shape.outputs) : "";
}

std::string Int8Part::ReadBias(const TfLiteTensor& bias, int64_t outputs) {
  bias_ = Copied<int64_t>(bias, outputs);
  for (int64_t o = 0; o < outputs; ++o) {
    if (bias_[o] >= -kMostInt8Bias && bias_[o] <= kMostInt8Bias) continue;
    return "The bias of AdderConv2D must be from " + std::to_string(-kMostInt8Bias) + " to " +
           std::to_string(kMostInt8Bias) + ". Received: bias[" + std::to_string(o) +
           "]=" + std::to_string(bias_[o]);
  }
  return "";
}

std::string Int8Part::Invoke(const AdderShape& shape, const AdderOptions& options,
                             const TfLiteTensor& x, const TfLiteTensor& filters,
                             const TfLiteTensor& multiplier, const TfLiteTensor& bias,
                             const TfLiteTensor* residual, TfLiteTensor* y,
                             const ParallelFor& parallel_for) {
  if (!IsConstant(filters, FilterBytes(shape))) filters_ = PackFiltersInt8(shape, Bytes(filters));
  if (!IsConstant(multiplier, shape.outputs * sizeof(int32_t))) {
    multiplier_ = Copied<int32_t>(multiplier, shape.outputs);
  }
  if (!IsConstant(bias, shape.outputs * sizeof(int64_t))) {
    const std::string error = ReadBias(bias, shape.outputs);
    if (!error.empty()) return error;
  }
  const Int8Epilogue epilogue = {multiplier_.data(),
                                 bias_.data(),
                                 residual == nullptr ? nullptr : Bytes(*residual),
                                 static_cast<int32_t>(options.residual_multiplier),
                                 static_cast<int32_t>(options.shift),
                                 static_cast<int32_t>(options.low),
                                 static_cast<int32_t>(options.high)};
  AdderForwardInt8(shape, Bytes(x), *filters_, options.zero, epilogue,
                   static_cast<int8_t*>(y->data), parallel_for);
  return "";
}

}  // namespace pkkd
