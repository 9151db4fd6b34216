// The adder operations on the processor: arguments converted and checked, threads lent.
#include "absl/strings/str_cat.h"
#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/tensorflow/geometry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace pkkd {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

DataType TypeOf(const Tensor& tensor) {
  if (tensor.dtype() == tensorflow::DT_BFLOAT16) return DataType::kBFloat16;
  return tensor.dtype() == tensorflow::DT_HALF ? DataType::kFloat16 : DataType::kFloat32;
}

Sizes SizesOf(const Tensor& tensor) {
  const auto sizes = tensor.shape().dim_sizes();
  return Sizes(sizes.begin(), sizes.end());
}

ParallelFor ThreadsOf(OpKernelContext* context) {
  return [context](int64_t items, int64_t cost, const RangeBody& body) {
    const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(workers.num_threads, workers.workers, items, cost, body);
  };
}

absl::Status CheckInstructionSet() {
  if (InstructionSetOverrideIsValid()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "PKKD_TF_CPU must be baseline, avx2 or avx512 and an instruction set of this processor. "
      "Received: PKKD_TF_CPU=", std::getenv("PKKD_TF_CPU")));
}

class AdderOp : public tensorflow::OpKernel {
 public:
  explicit AdderOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, CheckInstructionSet());
    OP_REQUIRES_OK(context, attributes_.Read(context));
  }

 protected:
  Attributes attributes_;
};

class AdderConv2DOp : public AdderOp {
 public:
  using AdderOp::AdderOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& filters = context->input(1);
    AdderShape shape;
    OP_REQUIRES_OK(context, MakeAdderShape(attributes_, SizesOf(x), SizesOf(filters), &shape));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, {shape.batch, shape.output_height, shape.output_width,
                                    shape.outputs}, &y));
    AdderForward(shape, TypeOf(x), x.data(), filters.data(), y->data(), ThreadsOf(context));
  }
};

class AdderConv2DInputGradientOp : public AdderOp {
 public:
  explicit AdderConv2DInputGradientOp(OpKernelConstruction* context) : AdderOp(context) {
    std::string slope;
    OP_REQUIRES_OK(context, context->GetAttr("input_gradient", &slope));
    slope_ = slope == "sign" ? Slope::kSign : Slope::kClipped;
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& filters = context->input(1);
    const Tensor& gradient = context->input(2);
    AdderShape shape;
    OP_REQUIRES_OK(context, MakeAdderShape(attributes_, SizesOf(x), SizesOf(filters), &shape));
    const Sizes response = {shape.batch, shape.output_height, shape.output_width, shape.outputs};
    OP_REQUIRES(context, SizesOf(gradient) == response,
                absl::InvalidArgumentError(absl::StrCat(
                    "`gradient` must have the shape of the response. Received: gradient.shape=",
                    ToString(SizesOf(gradient)), ", response shape=", ToString(response))));
    Tensor* dx = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &dx));
    AdderInputGradient(shape, TypeOf(x), slope_, x.data(), filters.data(), gradient.data(),
                       dx->data(), ThreadsOf(context));
  }

 private:
  Slope slope_;
};

#define REGISTER(T)                                                                           \
  REGISTER_KERNEL_BUILDER(                                                                    \
      Name("PkkdAdderConv2D").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),          \
      AdderConv2DOp);                                                                         \
  REGISTER_KERNEL_BUILDER(Name("PkkdAdderConv2DInputGradient")                                \
                              .Device(tensorflow::DEVICE_CPU)                                 \
                              .TypeConstraint<T>("T"),                                        \
                          AdderConv2DInputGradientOp)
REGISTER(float);
REGISTER(Eigen::half);
REGISTER(Eigen::bfloat16);
#undef REGISTER

}  // namespace
}  // namespace pkkd
