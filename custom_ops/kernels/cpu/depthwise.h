// Depthwise layers: one input channel a group. A group is too small to fill a vector with, so here
// the vectors run over the output channels, and every output has its own copy of its input.
#ifndef CUSTOM_OPS_KERNELS_CPU_DEPTHWISE_H_
#define CUSTOM_OPS_KERNELS_CPU_DEPTHWISE_H_

#include "custom_ops/kernels/cpu/adder.h"

namespace pkkd {

inline bool IsDepthwise(const AdderShape& shape) {
  return shape.groups == shape.channels && shape.groups > 1;
}

// As AdderForward and AdderInputGradient, for shapes that are depthwise and not empty.
void DepthwiseForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                      void* y, const ParallelFor& parallel_for);
void DepthwiseInputGradient(const AdderShape& shape, DataType type, Slope slope, const void* x,
                            const void* filters, const void* gradient, void* dx,
                            const ParallelFor& parallel_for);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_DEPTHWISE_H_
