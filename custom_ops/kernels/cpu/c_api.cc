// The kernels as C functions with threads of their own, for tests and timings without TensorFlow.
//
// `sizes` holds the fields of AdderShape in their order. Types: 0 float32, 1 bfloat16, 2 float16.
#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/int8.h"
#include "custom_ops/kernels/cpu/reference.h"

namespace {

pkkd::AdderShape ShapeOf(const int64_t* sizes) {
  pkkd::AdderShape shape;
  static_assert(sizeof shape == 16 * sizeof(int64_t));
  std::memcpy(&shape, sizes, sizeof shape);
  return shape;
}

pkkd::ParallelFor Threads(int count) {
  return [count](int64_t items, int64_t, const pkkd::RangeBody& body) {
    std::vector<std::thread> threads;
    for (int i = 1; i < count; ++i) {
      threads.emplace_back([=, &body] { body(items * i / count, items * (i + 1) / count); });
    }
    body(0, items / count);
    for (std::thread& thread : threads) thread.join();
  };
}

}  // namespace

extern "C" {

void pkkd_adder_forward(const int64_t* sizes, int type, const void* x, const void* filters,
                        void* y, int threads) {
  pkkd::AdderForward(ShapeOf(sizes), pkkd::DataType(type), x, filters, y, Threads(threads));
}

void pkkd_adder_input_gradient(const int64_t* sizes, int type, int slope, const void* x,
                               const void* filters, const void* gradient, void* dx, int threads) {
  pkkd::AdderInputGradient(ShapeOf(sizes), pkkd::DataType(type), pkkd::Slope(slope), x, filters,
                           gradient, dx, Threads(threads));
}

void pkkd_adder_forward_reference(const int64_t* sizes, int type, const void* x,
                                  const void* filters, void* y) {
  pkkd::AdderForwardReference(ShapeOf(sizes), pkkd::DataType(type), x, filters, y);
}

void pkkd_adder_input_gradient_reference(const int64_t* sizes, int type, int slope, const void* x,
                                         const void* filters, const void* gradient, void* dx) {
  const pkkd::AdderShape shape = ShapeOf(sizes);
  for (int64_t image = 0; image < shape.batch; ++image) {
    pkkd::AdderInputGradientReference(shape, pkkd::DataType(type), pkkd::Slope(slope), x, filters,
                                      gradient, dx, image, 0, shape.height);
  }
}

void* pkkd_int8_pack(const int64_t* sizes, const int8_t* filters) {
  return new pkkd::PackedFiltersInt8(pkkd::PackFiltersInt8(ShapeOf(sizes), filters));
}

void pkkd_int8_free(void* packed) { delete static_cast<pkkd::PackedFiltersInt8*>(packed); }

// epilogue: residual_multiplier, shift, low, high; residual may be null.
void pkkd_int8_forward(const int64_t* sizes, const int8_t* x, const void* packed, int32_t zero,
                       const int32_t* multiplier, const int64_t* bias, const int8_t* residual,
                       const int32_t* epilogue, int8_t* y, int threads) {
  const pkkd::Int8Epilogue e = {multiplier,  bias,        residual,   epilogue[0],
                                epilogue[1], epilogue[2], epilogue[3]};
  pkkd::AdderForwardInt8(ShapeOf(sizes), x, *static_cast<const pkkd::PackedFiltersInt8*>(packed),
                         zero, e, y, Threads(threads));
}

const char* pkkd_instruction_set() { return pkkd::InstructionSet(); }

int pkkd_instruction_set_override_is_valid() { return pkkd::InstructionSetOverrideIsValid(); }

}  // extern "C"
