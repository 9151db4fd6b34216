#include "custom_ops/kernels/cpu/pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "custom_ops/kernels/cpu/buffer.h"
#include "custom_ops/kernels/cpu/layout.h"

namespace pkkd {
namespace {

constexpr int64_t kLanes = 8;
constexpr float kMax = std::numeric_limits<float>::max();

// Smallest and largest finite number seen, in independent lanes that the compiler makes a vector.
struct Range {
  float low[kLanes], high[kLanes];

  Range() {
    std::fill(low, low + kLanes, kMax);
    std::fill(high, high + kLanes, -kMax);
  }
  void AddOne(float value, int64_t lane) {
    const bool finite = std::fabs(value) <= kMax;
    low[lane] = std::min(low[lane], finite ? value : kMax);
    high[lane] = std::max(high[lane], finite ? value : -kMax);
  }
  void Add(const float* values, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) AddOne(values[i + lane], lane);
    }
    for (; i < count; ++i) AddOne(values[i], 0);
  }
  float Centre() const {
    const double smallest = *std::min_element(low, low + kLanes);
    const double largest = *std::max_element(high, high + kLanes);
    if (smallest > largest) return 0;  // nothing finite
    const double middle = (smallest + largest) / 2;
    if (smallest == largest) return float(middle);
    const double step = std::exp2(std::ceil(std::log2(largest - smallest)) + 1);
    return float(std::nearbyint(middle / step) * step);
  }
};

}  // namespace

void Centres(const AdderShape& shape, const Tiles& tiles, DataType type, const void* filters,
             int64_t first, int64_t last, float* centres) {
  const int64_t inputs = shape.group_channels(), outputs = shape.group_outputs();
  const Buffer<float> row(outputs);
  for (int64_t channel = first; channel < last; ++channel) {
    const int64_t group = channel / inputs, c = channel % inputs;
    Range range;
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      const int64_t start = (tap * inputs + c) * shape.outputs + group * outputs;
      tiles.to_float(type, At(type, filters, start), outputs, row.get());
      range.Add(row.get(), outputs);
    }
    centres[channel] = range.Centre();
  }
}

void PairFilters(const AdderShape& shape, const float* centres, int64_t c, float* rows) {
  float *a = rows, *b = rows + shape.outputs;
  for (int64_t o = 0; o < shape.outputs; ++o) {
    const int64_t channel = o / shape.group_outputs() * shape.group_channels() + c;
    const bool both = c + 1 < shape.group_channels();
    const float x = a[o] - centres[channel], y = both ? b[o] - centres[channel + 1] : 0.0f;
    a[o] = x + y;
    b[o] = x - y;
  }
}

}  // namespace pkkd
