// Every kernel against the plain loops over a grid of shapes, as one program: for sanitizers, and
// for processors without Python (`python -m custom_ops.build --grid_test`).
//
// Numbers are multiples of 1/64 below 4, so that every sum is exact and nothing is tolerated.
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/kernels/cpu/grid_test.h"
#include "custom_ops/kernels/cpu/int8_grid_test.h"
#include "custom_ops/kernels/cpu/reference.h"

namespace pkkd {
namespace {

int64_t cases = 0;

void TwoThreads(int64_t items, int64_t, const RangeBody& body) {
  std::thread other([&] { body(0, items / 2); });
  body(items / 2, items);
  other.join();
}

void Expect(const Bytes& actual, const Bytes& expected, const char* what, const AdderShape& s) {
  ++cases;
  if (actual == expected) return;
  std::printf("%s differs: %s, %s\n", what, InstructionSet(), Text(s).c_str());
  std::exit(1);
}

void Check(const AdderShape& s, DataType type) {
  const auto [x, dy, f] = RandomTensors(s, type, 1);
  Bytes y(dy.size()), expected_y(dy.size());
  AdderForward(s, type, x.data(), f.data(), y.data(), TwoThreads);
  AdderForwardReference(s, type, x.data(), f.data(), expected_y.data());
  Expect(y, expected_y, "forward", s);
  Bytes again(y.size());
  AdderForward(s, type, x.data(), *PackFilters(s, type, f.data()), again.data(), TwoThreads);
  Expect(again, expected_y, "forward of packed filters", s);
  for (const Slope slope : {Slope::kClipped, Slope::kSign}) {
    Bytes dx(x.size()), expected_dx(x.size());
    AdderInputGradient(s, type, slope, x.data(), f.data(), dy.data(), dx.data(), TwoThreads);
    for (int64_t image = 0; image < s.batch; ++image) {
      AdderInputGradientReference(s, type, slope, x.data(), f.data(), dy.data(),
                                  expected_dx.data(), image, 0, s.height);
    }
    Expect(dx, expected_dx, "input gradient", s);
  }
}

void CheckGeometries(const Channels& channels, int64_t kernel, DataType type) {
  for (const int64_t stride : {1, 2, 3}) {
    for (const int64_t dilation : {1, 2}) {
      for (const int64_t padding : {0, 1, 4}) {  // before; one pixel more behind
        const int64_t height = 7, width = 6, batch = (stride + dilation + padding) % 3;
        const int64_t window = (kernel - 1) * dilation + 1, pads = 2 * padding + (padding > 0);
        const AdderShape shape = {batch, height, width, channels.inputs, kernel, kernel,
                                  channels.outputs, channels.groups, stride, stride, dilation,
                                  dilation, padding, padding,
                                  (height + pads - window) / stride + 1,
                                  (width + pads - window) / stride + 1};
        Check(shape, type);
      }
    }
  }
}

void CheckInstructionSet(const char* name) {
  setenv("PKKD_TF_CPU", name, 1);
  if (!InstructionSetOverrideIsValid()) return;
  const int64_t before = cases;
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    for (const Channels& channels :
         {Channels{1, 1, 1}, {3, 1, 5}, {6, 6, 6}, {5, 5, 10}, {16, 16, 16}, {16, 1, 33},
          {33, 1, 16}, {34, 2, 18}, {64, 1, 64}}) {
      for (const int64_t kernel : {1, 2, 3}) CheckGeometries(channels, kernel, type);
    }
  }
  std::printf("%s: %d comparisons\n", name, int(cases - before));
}

}  // namespace
}  // namespace pkkd

int main() {
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    pkkd::CheckInstructionSet(name);
    pkkd::CheckInt8InstructionSet(name);
  }
}
