#include "custom_ops/tflite/adder_node.h"

#include <cstdlib>

#include "custom_ops/tflite/geometry.h"

namespace pkkd {
namespace {

std::vector<int> Copied(const TfLiteIntArray* array) {
  if (array == nullptr) return {};
  return {array->data, array->data + array->size};
}

size_t SizeOf(TfLiteType type) {
  return type == kTfLiteInt8 ? 1 : type == kTfLiteInt64 ? 8 : 4;
}

}  // namespace

AdderNode::AdderNode(const TfLiteNode& node, std::shared_ptr<ThreadPool> threads)
    : inputs_(Copied(node.inputs)), outputs_(Copied(node.outputs)), threads_(std::move(threads)) {
  const size_t size = node.custom_initial_data_size < 0 ? 0 : node.custom_initial_data_size;
  options_error_ = ReadOptions(node.custom_initial_data, size, &options_);
}

std::string AdderNode::Prepare(TfLiteContext* context) {
  if (!options_error_.empty()) return options_error_;
  std::string error = CheckNumbers(context);
  if (error.empty()) error = CheckOptions(options_, numbers_);
  if (error.empty()) error = CheckTensors(context);
  if (error.empty()) {
    error = MakeAdderShape(Input(context, 0), Input(context, 1), options_, &shape_);
  }
  if (error.empty()) error = CheckExtraInputs(context);
  if (error.empty() && numbers_ == Numbers::kInt8) {
    error = int8_.Prepare(shape_, Input(context, 1), Input(context, 2), Input(context, 3));
  }
  if (!error.empty()) return error;
  if (numbers_ == Numbers::kFloat32) PackFloat32(Input(context, 1));
  auto* size = static_cast<TfLiteIntArray*>(std::malloc(5 * sizeof(int)));  // TFLite frees it
  if (size == nullptr) return "There must be memory for a shape. Received: none";
  size->size = 4;
  const int64_t dims[] = {shape_.batch, shape_.output_height, shape_.output_width, shape_.outputs};
  for (int i = 0; i < 4; ++i) size->data[i] = static_cast<int>(dims[i]);
  if (context->ResizeTensor(context, &context->tensors[outputs_[0]], size) == kTfLiteOk) return "";
  return "TFLite must be able to resize the output. Received: shape=" +
         ShapeText({dims, dims + 4});
}

void AdderNode::PackFloat32(const TfLiteTensor& filters) {
  packed_ = nullptr;
  if (!IsConstant(filters, CountNumbers(Dims(filters)) * sizeof(float))) return;
  packed_ = PackFilters(shape_, DataType::kFloat32, filters.data);
}

// Whether the inputs and outputs are tensors, and of which kind x is.
std::string AdderNode::CheckNumbers(TfLiteContext* context) {
  for (const std::vector<int>& indices : {inputs_, outputs_}) {
    for (const int index : indices) {
      if (index < 0 || static_cast<size_t>(index) >= context->tensors_size) {
        return "Every input and output of AdderConv2D must be a tensor of the graph. Received: "
               "tensor index=" +
               std::to_string(index) + ", tensors=" + std::to_string(context->tensors_size);
      }
    }
  }
  if (inputs_.empty()) return "AdderConv2D must have inputs. Received: inputs=0";
  const TfLiteType type = Input(context, 0).type;
  if (type != kTfLiteFloat32 && type != kTfLiteInt8) {
    return "x of AdderConv2D must be float32 or int8. Received: type number=" +
           std::to_string(type);
  }
  numbers_ = type == kTfLiteInt8 ? Numbers::kInt8 : Numbers::kFloat32;
  return "";
}

// The type an input should have, and the output that of x.
TfLiteType AdderNode::TypeOf(size_t input) const {
  if (numbers_ == Numbers::kFloat32) return kTfLiteFloat32;
  return input == 2 ? kTfLiteInt32 : input == 3 ? kTfLiteInt64 : kTfLiteInt8;
}

// Number and types of the tensors.
std::string AdderNode::CheckTensors(TfLiteContext* context) const {
  const int wanted = options_.inputs(numbers_);
  if (static_cast<int>(inputs_.size()) != wanted || outputs_.size() != 1) {
    return "AdderConv2D must have " + std::to_string(wanted) +
           " inputs, as x and its options say, and 1 output. Received: inputs=" +
           std::to_string(inputs_.size()) + ", outputs=" + std::to_string(outputs_.size());
  }
  for (size_t i = 0; i <= inputs_.size(); ++i) {
    const int index = i < inputs_.size() ? inputs_[i] : outputs_[0];
    const TfLiteType type = TypeOf(i < inputs_.size() ? i : 0);
    const TfLiteTensor& tensor = context->tensors[index];
    if (tensor.type != type || tensor.dims == nullptr) {
      return std::string("The tensors of AdderConv2D must be ") +
             (numbers_ == Numbers::kInt8 ? "int8, with an int32 multiplier and an int64 bias, if x is"
                                         : "float32 if x is") +
             ". Received: type number=" + std::to_string(tensor.type) +
             ", tensor index=" + std::to_string(index);
    }
  }
  return "";
}

std::string AdderNode::CheckExtraInputs(TfLiteContext* context) const {
  const std::vector<int64_t> output = {shape_.batch, shape_.output_height, shape_.output_width,
                                       shape_.outputs};
  for (size_t i = 2; i < inputs_.size(); ++i) {
    const bool is_residual = options_.residual && i + 1 == inputs_.size();
    const char* numbers = numbers_ == Numbers::kInt8
                              ? "multiplier and bias must have a number for each output"
                              : "scale and offset must have a number for each output";
    const std::vector<int64_t> wanted = is_residual ? output : std::vector{shape_.outputs};
    const TfLiteTensor& tensor = Input(context, i);
    if (Dims(tensor) != wanted) {
      return std::string(is_residual ? "residual must have the shape of the output" : numbers) +
             ". Received: shape=" + ShapeText(tensor) + ", wanted shape=" + ShapeText(wanted);
    }
  }
  return "";
}

std::string AdderNode::Invoke(TfLiteContext* context) {
  if (shape_.batch * shape_.output_height * shape_.output_width == 0) return "";
  const std::string error = CheckData(context);
  if (!error.empty()) return error;
  const ParallelFor parallel_for = [this](int64_t items, int64_t cost, const RangeBody& body) {
    threads_->Run(items, cost, body);
  };
  if (numbers_ == Numbers::kInt8) {
    const TfLiteTensor* other = options_.residual ? &context->tensors[residual()] : nullptr;
    return int8_.Invoke(shape_, options_, Input(context, 0), Input(context, 1), Input(context, 2),
                        Input(context, 3), other, &context->tensors[outputs_[0]], parallel_for);
  }
  InvokeFloat32(context, parallel_for);
  return "";
}

std::string AdderNode::CheckData(TfLiteContext* context) const {
  for (size_t i = 0; i <= inputs_.size(); ++i) {
    const int index = i < inputs_.size() ? inputs_[i] : outputs_[0];
    const TfLiteTensor& tensor = context->tensors[index];
    const size_t bytes = CountNumbers(Dims(tensor)) * SizeOf(TypeOf(i < inputs_.size() ? i : 0));
    if (tensor.data == nullptr || tensor.bytes < bytes) {
      return "Every tensor of AdderConv2D must hold its numbers. Received: bytes=" +
             std::to_string(tensor.bytes) + ", shape=" + ShapeText(tensor);
    }
  }
  return "";
}

void AdderNode::InvokeFloat32(TfLiteContext* context, const ParallelFor& parallel_for) const {
  void* y = context->tensors[outputs_[0]].data;
  const void* x = Input(context, 0).data;
  if (packed_ != nullptr) {
    AdderForward(shape_, DataType::kFloat32, x, *packed_, y, parallel_for);
  } else {
    AdderForward(shape_, DataType::kFloat32, x, Input(context, 1).data, y, parallel_for);
  }
  if (options_.affine || options_.residual || options_.relu) {
    parallel_for(shape_.batch * shape_.output_height * shape_.output_width, shape_.outputs,
                 [&](int64_t first, int64_t last) { FinishPixels(context, first, last); });
  }
}

// y = relu(y * scale + offset + residual), each part where the options ask for it.
void AdderNode::FinishPixels(TfLiteContext* context, int64_t first, int64_t last) const {
  const auto data = [&](int index) { return static_cast<float*>(context->tensors[index].data); };
  const int64_t outputs = shape_.outputs;
  for (int64_t pixel = first; pixel < last; ++pixel) {
    float* __restrict y = data(outputs_[0]) + pixel * outputs;
    if (options_.affine) {
      const float* scale_data = data(scale());
      const float* offset_data = data(offset());
      for (int64_t o = 0; o < outputs; ++o) y[o] = y[o] * scale_data[o] + offset_data[o];
    }
    if (options_.residual) {
      const float* residual_data = data(residual()) + pixel * outputs;
      for (int64_t o = 0; o < outputs; ++o) y[o] += residual_data[o];
    }
    if (options_.relu) {
      for (int64_t o = 0; o < outputs; ++o) y[o] = y[o] < 0.0f ? 0.0f : y[o];  // NaN stays
    }
  }
}

}  // namespace pkkd
