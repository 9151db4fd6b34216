// The adder operations on the processor and, where built with GOOGLE_CUDA, on GPUs: arguments
// converted and checked, threads or the stream lent.
#include <exception>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/tensorflow/geometry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"
#if GOOGLE_CUDA
#include "cuda_runtime_api.h"
#include "custom_ops/kernels/cuda/adder_cuda.h"
#include "unsupported/Eigen/CXX11/Tensor"  // from EIGEN_USE_GPU: eigen_gpu_device()
#endif

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

std::string Received(const AdderShape& s) {
  return absl::StrCat(
      ", x.shape=", ToString({s.batch, s.height, s.width, s.channels}), ", filters.shape=",
      ToString({s.kernel_height, s.kernel_width, s.group_channels(), s.outputs}), ", dilations=",
      ToString({s.dilation_height, s.dilation_width}), ", response shape=",
      ToString({s.batch, s.output_height, s.output_width, s.outputs}));
}

// Each device: whether its kernels can be used, and the two passes.
struct Cpu {
  static absl::Status Check() {
    if (InstructionSetOverrideIsValid()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "PKKD_TF_CPU must be baseline, avx2 or avx512 and an instruction set of this processor. "
        "Received: PKKD_TF_CPU=", std::getenv("PKKD_TF_CPU")));
  }

  static absl::Status Forward(OpKernelContext* context, const AdderShape& shape, const Tensor& x,
                              const Tensor& filters, Tensor* y) {
    return Guarded(shape, [&] {
      AdderForward(shape, TypeOf(x), x.data(), filters.data(), y->data(), ThreadsOf(context));
    });
  }

  static absl::Status InputGradient(OpKernelContext* context, const AdderShape& shape,
                                    Slope slope, const Tensor& x, const Tensor& filters,
                                    const Tensor& gradient, Tensor* dx) {
    return Guarded(shape, [&] {
      AdderInputGradient(shape, TypeOf(x), slope, x.data(), filters.data(), gradient.data(),
                         dx->data(), ThreadsOf(context));
    });
  }

 private:
  // TensorFlow catches no exceptions: here the kernels', which ask for buffers, become a status.
  template <typename Body>
  static absl::Status Guarded(const AdderShape& s, const Body& body) {
    try {
      body();
      return absl::OkStatus();
    } catch (const std::exception& error) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "There must be memory for the padded image and the filters as the kernel lays them out. "
          "Received: ", error.what(), Received(s)));
    }
  }

  // Rethrows on the calling thread what `body` throws on another.
  static ParallelFor ThreadsOf(OpKernelContext* context) {
    return [context](int64_t items, int64_t cost, const RangeBody& body) {
      std::mutex mutex;
      std::exception_ptr error;
      const auto guarded = [&](int64_t first, int64_t last) {
        try {
          body(first, last);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(mutex);
          error = std::current_exception();
        }
      };
      const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
      tensorflow::Shard(workers.num_threads, workers.workers, items, cost, guarded);
      if (error) std::rethrow_exception(error);
    };
  }
};

#if GOOGLE_CUDA
struct Gpu {
  static absl::Status Check() { return absl::OkStatus(); }

  static absl::Status Forward(OpKernelContext* context, const AdderShape& shape, const Tensor& x,
                              const Tensor& filters, Tensor* y) {
    const int error = pkkd_cuda_adder_forward(&shape, int(TypeOf(x)), x.data(), filters.data(),
                                              y->data(), StreamOf(context), kAnyTile);
    return StatusOf(error, shape);
  }

  static absl::Status InputGradient(OpKernelContext* context, const AdderShape& shape,
                                    Slope slope, const Tensor& x, const Tensor& filters,
                                    const Tensor& gradient, Tensor* dx) {
    const int error = pkkd_cuda_adder_input_gradient(
        &shape, int(TypeOf(x)), int(slope), x.data(), filters.data(), gradient.data(),
        dx->data(), StreamOf(context), kAnyTile);
    return StatusOf(error, shape);
  }

 private:
  static constexpr int kAnyTile = -1;

  static void* StreamOf(OpKernelContext* context) {
    return context->eigen_gpu_device().stream();
  }

  // No status that TensorFlow also gives where another process is gone.
  static absl::Status StatusOf(int error, const AdderShape& shape) {
    if (error == 0) return absl::OkStatus();
    const std::string received = absl::StrCat(" Received: CUDA error ", error, ", ",
                                              pkkd_cuda_error_text(error), Received(shape));
    if (error == cudaErrorMemoryAllocation) {
      return absl::ResourceExhaustedError("The GPU must have memory for the kernel." + received);
    }
    if (error == cudaErrorInvalidValue) {
      return absl::InvalidArgumentError(
          "An image, its response and all filters must have at most 2^30 numbers each on a GPU, "
          "and at most 2^28 pixels." + received);
    }
    return absl::FailedPreconditionError("The GPU must accept the kernel." + received);
  }
};
#endif

template <typename Device>
class AdderOp : public tensorflow::OpKernel {
 public:
  explicit AdderOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, Device::Check());
    OP_REQUIRES_OK(context, attributes_.Read(context));
  }

 protected:
  Attributes attributes_;
};

template <typename Device>
class AdderConv2DOp : public AdderOp<Device> {
 public:
  using AdderOp<Device>::AdderOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& filters = context->input(1);
    AdderShape shape;
    OP_REQUIRES_OK(context,
                   MakeAdderShape(this->attributes_, SizesOf(x), SizesOf(filters), &shape));
    tensorflow::TensorShape response;
    OP_REQUIRES_OK(context, tensorflow::TensorShape::BuildTensorShape(
                                {shape.batch, shape.output_height, shape.output_width,
                                 shape.outputs}, &response));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, response, &y));
    OP_REQUIRES_OK(context, Device::Forward(context, shape, x, filters, y));
  }
};

template <typename Device>
class AdderConv2DInputGradientOp : public AdderOp<Device> {
 public:
  explicit AdderConv2DInputGradientOp(OpKernelConstruction* context)
      : AdderOp<Device>(context) {
    std::string slope;
    OP_REQUIRES_OK(context, context->GetAttr("input_gradient", &slope));
    slope_ = slope == "sign" ? Slope::kSign : Slope::kClipped;
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& filters = context->input(1);
    const Tensor& gradient = context->input(2);
    AdderShape shape;
    OP_REQUIRES_OK(context,
                   MakeAdderShape(this->attributes_, SizesOf(x), SizesOf(filters), &shape));
    const Sizes response = {shape.batch, shape.output_height, shape.output_width, shape.outputs};
    OP_REQUIRES(context, SizesOf(gradient) == response,
                absl::InvalidArgumentError(absl::StrCat(
                    "`gradient` must have the shape of the response. Received: gradient.shape=",
                    ToString(SizesOf(gradient)), ", response shape=", ToString(response))));
    Tensor* dx = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &dx));
    OP_REQUIRES_OK(context,
                   Device::InputGradient(context, shape, slope_, x, filters, gradient, dx));
  }

 private:
  Slope slope_;
};

#define REGISTER(Place, place, T)                                                           \
  REGISTER_KERNEL_BUILDER(Name("PkkdAdderConv2D").Device(place).TypeConstraint<T>("T"),     \
                          AdderConv2DOp<Place>);                                            \
  REGISTER_KERNEL_BUILDER(                                                                  \
      Name("PkkdAdderConv2DInputGradient").Device(place).TypeConstraint<T>("T"),            \
      AdderConv2DInputGradientOp<Place>)
REGISTER(Cpu, tensorflow::DEVICE_CPU, float);
REGISTER(Cpu, tensorflow::DEVICE_CPU, Eigen::half);
REGISTER(Cpu, tensorflow::DEVICE_CPU, Eigen::bfloat16);
#if GOOGLE_CUDA
REGISTER(Gpu, tensorflow::DEVICE_GPU, float);
REGISTER(Gpu, tensorflow::DEVICE_GPU, Eigen::half);
REGISTER(Gpu, tensorflow::DEVICE_GPU, Eigen::bfloat16);
#endif
#undef REGISTER

}  // namespace
}  // namespace pkkd
