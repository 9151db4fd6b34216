// One AdderConv2D of a TFLite graph: checks its tensors, then calls the kernel.
#ifndef CUSTOM_OPS_TFLITE_ADDER_NODE_H_
#define CUSTOM_OPS_TFLITE_ADDER_NODE_H_

#include <memory>
#include <string>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/tflite/int8_part.h"
#include "custom_ops/tflite/options.h"
#include "custom_ops/tflite/tflite_abi.h"
#include "custom_ops/tflite/thread_pool.h"

namespace pkkd {

// Inputs: x (batch, height, width, channels), filters (kernel height, kernel width, channels /
// groups, outputs); with the option affine, scale (outputs) and offset (outputs); with the option
// residual, a tensor of the output's shape. Output: (batch, output height, output width, outputs).
// All are float32. If x is int8 (kernels/cpu/int8.h), filters, residual and output are too, and
// instead of scale and offset there are always multiplier (outputs), int32, and bias (outputs),
// int64.
class AdderNode {
 public:
  AdderNode(const TfLiteNode& node, std::shared_ptr<ThreadPool> threads);

  // Both return an empty string, or what is wrong, in two sentences.
  std::string Prepare(TfLiteContext* context);
  std::string Invoke(TfLiteContext* context);

 private:
  std::string CheckTensors(TfLiteContext* context) const;
  std::string CheckNumbers(TfLiteContext* context);
  TfLiteType TypeOf(size_t input) const;
  TfLiteTensor& Input(TfLiteContext* context, size_t i) const {
    return context->tensors[inputs_[i]];
  }
  std::string CheckExtraInputs(TfLiteContext* context) const;
  void PackFloat32(const TfLiteTensor& filters);
  std::string CheckData(TfLiteContext* context) const;
  void InvokeFloat32(TfLiteContext* context, const ParallelFor& parallel_for) const;
  void FinishPixels(TfLiteContext* context, int64_t first, int64_t last) const;

  int scale() const { return inputs_[2]; }
  int offset() const { return inputs_[3]; }
  int residual() const { return inputs_.back(); }

  std::vector<int> inputs_, outputs_;
  AdderOptions options_;
  std::string options_error_;
  Numbers numbers_ = Numbers::kFloat32;
  AdderShape shape_ = {};
  Int8Part int8_;
  PackedFiltersPointer packed_;  // float32 filters, if they are constant
  const std::shared_ptr<ThreadPool> threads_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_ADDER_NODE_H_
