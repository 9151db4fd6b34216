// The adder's response on 8-bit integers, for inference: exact, so bit for bit the same on every
// instruction set and with any number of threads.
//
//   S[n,p,q,o] = sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
//   t          = S * multiplier[o] + residual_multiplier * residual[n,p,q,o] + bias[o]
//   Y          = clamp(floor(t / 2^shift), low, high)
//
// X and F have one scale and one zero point, which cancel in the difference. A tap outside the image
// counts as X = zero. What follows the sum in real numbers (the scales, batch normalization, the
// residual addition, ReLU, rounding by half) is in the integers of the epilogue.
#ifndef CUSTOM_OPS_KERNELS_CPU_INT8_H_
#define CUSTOM_OPS_KERNELS_CPU_INT8_H_

#include <cstdint>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/buffer.h"

namespace pkkd {

// Within these bounds no sum here overflows.
constexpr int64_t kMostInt8Terms = int64_t{1} << 22;  // of one sum S
constexpr int64_t kMostInt8Bias = int64_t{1} << 61;   // magnitude
constexpr int kMostInt8Shift = 46;                    // and at least 1

struct Int8Epilogue {
  const int32_t* multiplier;  // of each output
  const int64_t* bias;        // of each output
  const int8_t* residual;     // of the shape of y, or null
  int32_t residual_multiplier;
  int32_t shift;
  int32_t low, high;  // -128 <= low <= high <= 127
};

struct Int8Tiles;

// Filters in the order in which the inner loops of one instruction set read them.
struct PackedFiltersInt8 {
  const Int8Tiles* tiles;
  Buffer<uint8_t> bytes;
};

// filters (kernel_height, kernel_width, channels / groups, outputs). Packs for the instruction set
// in use (InstructionSet in adder.h), whichever is in use later.
PackedFiltersInt8 PackFiltersInt8(const AdderShape& shape, const int8_t* filters);

// x (batch, height, width, channels), y (batch, output_height, output_width, outputs), dense. The
// filters are those of such a shape, of any batch, height and width. -128 <= zero <= 127.
void AdderForwardInt8(const AdderShape& shape, const int8_t* x, const PackedFiltersInt8& filters,
                      int32_t zero, const Int8Epilogue& epilogue, int8_t* y,
                      const ParallelFor& parallel_for);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_INT8_H_
