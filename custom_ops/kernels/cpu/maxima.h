// The forward pass by maxima: |x - f| = 2 max(x, f) - x - f, so
//   -sum |x - f| = (sum x - sum max(x, f)) + (sum f - sum max(x, f)).
// The sums of x are shared by all filters and those of f by all pixels; a term is left with a
// maximum and an addition, where its distance takes three operations.
//
// The differences of the sums cancel where x is close to f. With D = sum |x - f| and A = sum |f|
// (then sum |x| <= A + D), D >= 3/4 A leaves all sums of numbers within 4 D. A result that is
// smaller, or not finite, gives way to the sum of distances, which is computed for its whole tile
// then. In trained networks D is about A or more, hardly ever below 3/4 A. Where every tile holds
// such a result (one filter in 16 is enough, or x and f around one number far from 0), the pass
// takes 1.7 times as long as by distances alone.
#ifndef CUSTOM_OPS_KERNELS_CPU_MAXIMA_H_
#define CUSTOM_OPS_KERNELS_CPU_MAXIMA_H_

#include <cstdint>

namespace pkkd {

constexpr int64_t kMaximaRows = 2;  // of a panel, behind its filters: sum f and -3/4 A

// Writes them for a panel of `rows` rows of `lanes` filters.
void SumFilters(int64_t rows, int64_t lanes, float* panel);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_MAXIMA_H_
