#include "custom_ops/kernels/cpu/maxima.h"

#include <algorithm>
#include <cmath>

#include "custom_ops/kernels/cpu/buffer.h"

namespace pkkd {

void SumFilters(int64_t rows, int64_t lanes, float* panel) {
  const Buffer<double> sums(2 * lanes);
  double *sum = sums.get(), *magnitude = sum + lanes;
  std::fill(sum, magnitude + lanes, 0.0);
  for (int64_t row = 0; row < rows; ++row, panel += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      sum[lane] += panel[lane];
      magnitude[lane] += std::fabs(panel[lane]);
    }
  }
  for (int64_t lane = 0; lane < lanes; ++lane) {
    panel[lane] = float(sum[lane]);
    panel[lanes + lane] = float(-0.75 * magnitude[lane]);
  }
}

}  // namespace pkkd
