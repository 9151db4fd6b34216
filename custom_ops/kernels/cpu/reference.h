// The formulas of adder.h as plain loops with double sums: what every faster kernel is tested
// against, and the way NaN and infinity are handled in the input gradient.
#ifndef CUSTOM_OPS_KERNELS_CPU_REFERENCE_H_
#define CUSTOM_OPS_KERNELS_CPU_REFERENCE_H_

#include "custom_ops/kernels/cpu/adder.h"

namespace pkkd {

void AdderForwardReference(const AdderShape& shape, DataType type, const void* x,
                           const void* filters, void* y);

// Writes rows [first_row, last_row) of one image of dx.
void AdderInputGradientReference(const AdderShape& shape, DataType type, Slope slope,
                                 const void* x, const void* filters, const void* gradient,
                                 void* dx, int64_t image, int64_t first_row, int64_t last_row);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_REFERENCE_H_
