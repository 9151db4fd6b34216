// Adder kernels for NVIDIA GPUs: device pointers, sizes and a stream, no framework.
//
// The sums of custom_ops/kernels/cpu/adder.h, same layouts. One result is summed in one order,
// whatever the tile (the last, without shared memory, has its own), so runs give the same bits.
//   forward         float32 sums over k = (i, j, c) in pairs; float16 adds in float16 too, flushed
//                   to float32 every 16 terms, and errs by up to 2e-3 of the response
//   input gradient  float32. Clipped: HT(z) = 2 sat((z + 1) / 2) - 1, where sat costs nothing, on
//                   numbers less a filter value of the channel, so an offset common to x and the
//                   filters costs no digits. A term errs by up to 2^-23 |G|, however small its z:
//                   of inputs and filters that agree to 1e-4 three digits are left
// NaN and infinity behave as the formulas say.
//
// Compiled for GPUs and tested in emulation (emulation.h); not yet run on a GPU.
#ifndef CUSTOM_OPS_KERNELS_CUDA_ADDER_CUDA_H_
#define CUSTOM_OPS_KERNELS_CUDA_ADDER_CUDA_H_

#include "custom_ops/kernels/cpu/adder.h"

extern "C" {

// All pointers are device memory, dense, of `type` (a pkkd::DataType); `stream` is a cudaStream_t.
// The call returns once the work is queued: 0, or a cudaError_t. `tile` is an index below
// pkkd_cuda_tiles(), or -1: chosen by the sizes.
int pkkd_cuda_adder_forward(const pkkd::AdderShape* shape, int type, const void* x,
                            const void* filters, void* y, void* stream, int tile);

// `slope` is a pkkd::Slope.
int pkkd_cuda_adder_input_gradient(const pkkd::AdderShape* shape, int type, int slope,
                                   const void* x, const void* filters, const void* gradient,
                                   void* dx, void* stream, int tile);

int pkkd_cuda_tiles();

const char* pkkd_cuda_error_text(int error);

// Null where every visible GPU can run the kernels with its driver, else why not. Creates no
// context.
const char* pkkd_cuda_obstacle();

// The same for one GPU from numbers alone: versions as cudaDriverGetVersion gives them (0: no
// driver), capabilities as in __CUDA_ARCH__, those of the code ascending. `text` may become empty.
void pkkd_cuda_obstacle_of(int driver, int runtime, int capability, const int* compiled, int count,
                           char* text, int size);

}  // extern "C"

#endif  // CUSTOM_OPS_KERNELS_CUDA_ADDER_CUDA_H_
