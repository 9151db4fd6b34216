// The kernels on 8-bit integers against plain loops in int64 over a grid of shapes: bit for bit.
#include "custom_ops/kernels/cpu/int8_grid_test.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "custom_ops/kernels/cpu/int8.h"

namespace pkkd {
namespace {

int64_t cases = 0;

void ThreeThreads(int64_t items, int64_t, const RangeBody& body) {
  std::thread first([&] { body(0, items / 3); });
  std::thread second([&] { body(items / 3, 2 * items / 3); });
  body(2 * items / 3, items);
  first.join();
  second.join();
}

// How large the integers of the epilogue are.
enum class Range { kUsual, kSmallShift, kLargest, kConstant };
constexpr Range kRanges[] = {Range::kUsual, Range::kSmallShift, Range::kLargest, Range::kConstant};

// The tensors of a layer, exactly as long as they have to be, so that a sanitizer sees the first
// byte beyond.
struct Case {
  AdderShape s;
  int32_t zero;
  std::vector<int8_t> x, filters, residual;
  std::vector<int32_t> multiplier;
  std::vector<int64_t> bias;
  Int8Epilogue epilogue;
};

class Numbers {
 public:
  int64_t Between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  template <typename T>
  std::vector<T> Many(int64_t count, int64_t low, int64_t high) {
    std::vector<T> numbers(count);
    for (T& number : numbers) number = Between(low, high);
    return numbers;
  }
  // Every fourth number is -128, every fourth 127.
  std::vector<int8_t> Bytes(int64_t count) {
    std::vector<int8_t> bytes = Many<int8_t>(count, -256, 255);
    for (int8_t& byte : bytes) {
      const int64_t kind = Between(0, 3);
      if (kind < 2) byte = kind == 0 ? -128 : 127;
    }
    return bytes;
  }

 private:
  std::mt19937 random_{1};
};

int64_t Terms(const AdderShape& s) { return s.taps() * s.group_channels(); }
int64_t Outputs(const AdderShape& s) {
  return s.batch * s.output_height * s.output_width * s.outputs;
}

void FillEpilogue(Range range, bool with_residual, Numbers* numbers, Case* c) {
  const int64_t terms = Terms(c->s), outputs = c->s.outputs;
  Int8Epilogue e = {};
  e.shift = range == Range::kUsual ? 36 : numbers->Between(1, 12);
  int64_t most = (int64_t{1} << e.shift) / terms + 1, bias = 128 * terms * most;
  if (range == Range::kLargest) {
    e.shift = numbers->Between(0, 1) ? kMostInt8Shift : 1;
    most = (int64_t{1} << 31) - 1;
    bias = kMostInt8Bias;
  }
  c->multiplier = numbers->Many<int32_t>(outputs, -most - (range == Range::kLargest), most);
  c->bias = numbers->Many<int64_t>(outputs, -bias, bias);
  if (range == Range::kLargest) {
    c->multiplier[0] = -most - 1;
    c->bias[0] = -bias;
    c->multiplier[outputs - 1] = most;
    c->bias[outputs - 1] = bias;
  }
  e.low = numbers->Between(-128, 127);
  e.high = range == Range::kConstant ? e.low : numbers->Between(e.low, 127);
  if (numbers->Between(0, 1)) e.low = -128, e.high = 127;
  c->residual = numbers->Bytes(with_residual ? Outputs(c->s) : 0);
  e.residual_multiplier = with_residual ? numbers->Between(-most, most) : 0;
  e.multiplier = c->multiplier.data();
  e.bias = c->bias.data();
  e.residual = with_residual ? c->residual.data() : nullptr;
  c->epilogue = e;
}

int64_t Sum(const Case& c, int64_t n, int64_t p, int64_t q, int64_t o) {
  const AdderShape& s = c.s;
  int64_t sum = 0;
  for (int64_t tap = 0; tap < s.taps(); ++tap) {
    const int64_t h = p * s.stride_height - s.pad_top + tap / s.kernel_width * s.dilation_height;
    const int64_t w = q * s.stride_width - s.pad_left + tap % s.kernel_width * s.dilation_width;
    const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
    for (int64_t k = 0; k < s.group_channels(); ++k) {
      const int64_t channel = o / s.group_outputs() * s.group_channels() + k;
      const int64_t x =
          inside ? c.x[((n * s.height + h) * s.width + w) * s.channels + channel] : c.zero;
      sum += std::abs(x - c.filters[(tap * s.group_channels() + k) * s.outputs + o]);
    }
  }
  return sum;
}

std::vector<int8_t> Expected(const Case& c) {
  std::vector<int8_t> y(Outputs(c.s));
  for (int64_t i = 0; i < Outputs(c.s); ++i) {
    const int64_t o = i % c.s.outputs, q = i / c.s.outputs % c.s.output_width;
    const int64_t row = i / c.s.outputs / c.s.output_width;
    int64_t t = Sum(c, row / c.s.output_height, row % c.s.output_height, q, o) * c.multiplier[o];
    t += c.bias[o];
    if (!c.residual.empty()) t += int64_t{c.epilogue.residual_multiplier} * c.residual[i];
    int64_t floor = t / (int64_t{1} << c.epilogue.shift);
    if (floor * (int64_t{1} << c.epilogue.shift) > t) --floor;
    y[i] = std::clamp<int64_t>(floor, c.epilogue.low, c.epilogue.high);
  }
  return y;
}

void Check(const AdderShape& s) {
  Numbers numbers;
  for (const Range range : kRanges) {
    Case c = {};
    c.s = s;
    c.zero = numbers.Between(-128, 127);
    c.x = numbers.Bytes(s.batch * s.height * s.width * s.channels);
    c.filters = numbers.Bytes(Terms(s) * s.outputs);
    FillEpilogue(range, cases % 2 == 0, &numbers, &c);
    std::vector<int8_t> y(Outputs(s));
    const PackedFiltersInt8 packed = PackFiltersInt8(s, c.filters.data());
    AdderForwardInt8(s, c.x.data(), packed, c.zero, c.epilogue, y.data(), ThreeThreads);
    ++cases;
    if (y == Expected(c)) continue;
    std::printf("int8 differs: %s, image %d x %d x %d, channels %d, filters %d x %d x %d, groups "
                "%d, strides %d %d, dilations %d %d, padding %d %d, shift %d, residual %d\n",
                InstructionSet(), int(s.batch), int(s.height), int(s.width), int(s.channels),
                int(s.kernel_height), int(s.kernel_width), int(s.outputs), int(s.groups),
                int(s.stride_height), int(s.stride_width), int(s.dilation_height),
                int(s.dilation_width), int(s.pad_top), int(s.pad_left), int(c.epilogue.shift),
                int(c.epilogue.residual != nullptr));
    std::exit(1);
  }
}

struct Channels {
  int64_t inputs, groups, outputs;
};

void CheckGeometries(const Channels& channels, int64_t rows, int64_t columns) {
  for (const int64_t stride : {1, 2, 3}) {
    for (const int64_t dilation : {1, 2}) {
      for (const int64_t padding : {0, 1, 4}) {  // before; one pixel more behind
        const int64_t height = 7, width = 9, batch = (stride + dilation + padding) % 3;
        const int64_t pads = 2 * padding + (padding > 0);
        const int64_t h = height + pads - (rows - 1) * dilation - 1;
        const int64_t w = width + pads - (columns - 1) * dilation - 1;
        Check({batch, height, width, channels.inputs, rows, columns, channels.outputs,
               channels.groups, stride, stride, dilation, dilation, padding, padding,
               h / stride + 1, w / stride + 1});
      }
    }
  }
}

}  // namespace

void CheckInt8InstructionSet(const char* name) {
  setenv("PKKD_TF_CPU", name, 1);
  if (!InstructionSetOverrideIsValid()) return;
  const int64_t before = cases;
  for (const Channels& channels :
       {Channels{1, 1, 1}, {3, 1, 5}, {6, 6, 6}, {5, 5, 10}, {16, 16, 16}, {40, 40, 40},
        {16, 1, 33}, {33, 1, 12}, {34, 2, 18}, {64, 1, 64}, {32, 4, 44}}) {
    for (const int64_t kernel : {1, 2, 3}) CheckGeometries(channels, kernel, kernel);
  }
  CheckGeometries({2, 1, 3}, 2, 3);
  // More terms than a sum of 16 bits holds, in one run and over many taps.
  Check({1, 3, 70, 8, 3, 70, 16, 1, 1, 1, 1, 1, 0, 0, 1, 1});
  Check({1, 20, 20, 16, 17, 17, 16, 16, 1, 1, 1, 1, 0, 0, 4, 4});
  Check({1, 1, 1, 300, 1, 1, 150, 1, 1, 1, 1, 1, 0, 0, 1, 1});
  // Strips of fewer rows than the image.
  Check({2, 40, 40, 32, 3, 3, 8, 1, 1, 1, 1, 1, 1, 1, 40, 40});
  std::printf("%s, int8: %d comparisons\n", name, int(cases - before));
}

}  // namespace pkkd
