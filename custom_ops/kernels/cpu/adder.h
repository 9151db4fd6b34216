// Adder kernels for the processor: pointers, sizes and a parallel-for, no framework.
//
//   forward         Y[n,p,q,o]  = -sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
//   input gradient  dX[n,h,w,c] = sum_{i,j,o} HT(F[i,j,c,o] - X[n,h,w,c]) * G[n,p,q,o]
//
// X is NHWC, F is HWIO with the input channels of one group, Y and G are NHWC. Output channel o
// belongs to group o / (outputs / groups). A tap outside the image counts as X = 0 in the forward
// pass. Source: AdderNet, Chen et al., CVPR 2020, arXiv 1912.13200.
//
// All sums are float32 (of at most about 512 terms each, added up afterwards), whatever the
// storage type. One output is summed in one order, so results do not depend on the number of
// threads; between instruction sets they differ by float32 rounding. An offset common to x and the
// filters costs no digits. NaN and infinity behave as the formulas say.
#ifndef CUSTOM_OPS_KERNELS_CPU_ADDER_H_
#define CUSTOM_OPS_KERNELS_CPU_ADDER_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace pkkd {

enum class DataType { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// HT(z) of the input gradient.
enum class Slope {
  kClipped = 0,  // clamp(z, -1, 1)
  kSign = 1,     // -1, 0 or 1
};

// Sizes in elements and pixels; all positive, except batch, height, width and paddings >= 0.
struct AdderShape {
  int64_t batch, height, width, channels;
  int64_t kernel_height, kernel_width, outputs, groups;
  int64_t stride_height, stride_width, dilation_height, dilation_width;
  int64_t pad_top, pad_left;
  int64_t output_height, output_width;

  int64_t group_channels() const { return channels / groups; }
  int64_t group_outputs() const { return outputs / groups; }
  int64_t taps() const { return kernel_height * kernel_width; }
};

// Calls body(first, last) over disjoint ranges that cover [0, items), on any threads, and returns
// when all are done. `cost` estimates the processor cycles of one item.
using RangeBody = std::function<void(int64_t first, int64_t last)>;
using ParallelFor = std::function<void(int64_t items, int64_t cost, const RangeBody& body)>;

// x (batch, height, width, channels), filters (kernel_height, kernel_width, channels / groups,
// outputs), y (batch, output_height, output_width, outputs); all of `type`, dense.
void AdderForward(const AdderShape& shape, DataType type, const void* x, const void* filters,
                  void* y, const ParallelFor& parallel_for);

struct PackedFilters;
using PackedFiltersPointer = std::shared_ptr<const PackedFilters>;

// The filters of AdderForward as its inner loops read them, for filters that stay the same: packing
// them takes as long as some thousand outputs. Of a depthwise shape the pointer alone is kept.
PackedFiltersPointer PackFilters(const AdderShape& shape, DataType type, const void* filters);

// The shape is the one of PackFilters, with any batch, height and width.
void AdderForward(const AdderShape& shape, DataType type, const void* x,
                  const PackedFilters& filters, void* y, const ParallelFor& parallel_for);

// gradient has the shape of y, dx the shape of x. Every element of dx is written.
void AdderInputGradient(const AdderShape& shape, DataType type, Slope slope, const void* x,
                        const void* filters, const void* gradient, void* dx,
                        const ParallelFor& parallel_for);

// The instruction set in use, "baseline", "avx2" or "avx512": the best one of this processor, or
// the one named by the environment variable PKKD_TF_CPU.
const char* InstructionSet();

// False when PKKD_TF_CPU names no instruction set of this processor (it is then ignored).
bool InstructionSetOverrideIsValid();

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_ADDER_H_
