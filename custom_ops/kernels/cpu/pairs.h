// Two terms at a time: |a| + |b| = max(|a + b|, |a - b|), with a = x0 - f0 and b = x1 - f1, is
//   max(|(x0 + x1) - (f0 + f1)|, |(x0 - x1) - (f0 - f1)|),
// and the sums and differences of x and of f are computed once for many uses. Where the larger
// magnitude is one instruction, two terms take four instructions instead of six.
//
// The sums are rounded, so an offset common to x and f would cost digits: a centre of each input
// channel is subtracted from both first. An odd channel is paired with zeros.
#ifndef CUSTOM_OPS_KERNELS_CPU_PAIRS_H_
#define CUSTOM_OPS_KERNELS_CPU_PAIRS_H_

#include <cstdint>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {

// Centres of input channels [first, last), from the filters that see them: 0 unless the middle of
// their range is farther from 0 than about twice its width. Coarse numbers, so that subtracting one
// from numbers near it is exact. NaN and infinity do not count.
void Centres(const AdderShape& shape, const Tiles& tiles, DataType type, const void* filters,
             int64_t first, int64_t last, float* centres);

// Two rows (2, outputs) of filters, of channels c and c + 1 of each group, become the sums and the
// differences of the filters less their centres.
void PairFilters(const AdderShape& shape, const float* centres, int64_t c, float* rows);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_PAIRS_H_
