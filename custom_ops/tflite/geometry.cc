#include "custom_ops/tflite/geometry.h"

#include <algorithm>

namespace pkkd {
namespace {

constexpr int64_t kMostNumbers = int64_t{1} << 28;  // 1 GiB of float32

// Padded sizes, and how far the window goes in them.
struct Padded {
  int64_t height, width;
  int64_t rows, columns;  // the last place of the window; negative: it does not fit

  Padded(const std::vector<int64_t>& x, const std::vector<int64_t>& filters,
         const AdderOptions& o)
      : height(x[1] + o.pad_top + o.pad_bottom),
        width(x[2] + o.pad_left + o.pad_right),
        rows(height - o.dilation_h * (filters[0] - 1) - 1),
        columns(width - o.dilation_w * (filters[1] - 1) - 1) {}

  std::string text() const {
    return ", padded height=" + std::to_string(height) + ", padded width=" + std::to_string(width);
  }
};

// An empty string, or the rule that the sizes break.
std::string CheckChannels(const std::vector<int64_t>& x, const std::vector<int64_t>& filters,
                          int64_t groups) {
  if (x.size() != 4 || filters.size() != 4) return "x and filters must have 4 dimensions";
  const bool positive = *std::min_element(filters.begin(), filters.end()) >= 1;
  if (!positive || CountNumbers(filters) < 0) return "The dimensions of filters must be positive";
  if (x[3] != filters[2] * groups) {
    return "The number of input channels must equal filters' third dimension times groups";
  }
  if (filters[3] % groups != 0) {
    return "The number of output channels must be a positive multiple of groups";
  }
  return "";
}

bool CanBeAllocated(const AdderShape& s, const Padded& padded) {
  // Depthwise kernels lay out every input once for each of its outputs.
  const int64_t laid_out =
      s.channels == s.groups ? std::max<int64_t>(s.channels, s.outputs) : s.channels;
  return CountNumbers({s.batch, s.height, s.width, s.channels}) >= 0 &&
         CountNumbers({padded.height, padded.width, laid_out}) >= 0 &&
         CountNumbers({s.batch, s.output_height, s.output_width, s.outputs}) >= 0;
}

}  // namespace

std::vector<int64_t> Dims(const TfLiteTensor& tensor) {
  return {tensor.dims->data, tensor.dims->data + tensor.dims->size};
}

std::string ShapeText(const std::vector<int64_t>& dims) {
  std::string text = "(";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + ")";
}

std::string ShapeText(const TfLiteTensor& tensor) { return ShapeText(Dims(tensor)); }

int64_t CountNumbers(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (const int64_t size : dims) {
    if (size < 0 || size > kMostNumbers) return -1;
    count *= size;
    if (count > kMostNumbers) return -1;
  }
  return count;
}

std::string MakeAdderShape(const TfLiteTensor& x, const TfLiteTensor& filters,
                           const AdderOptions& o, AdderShape* shape) {
  const std::vector<int64_t> in = Dims(x), f = Dims(filters);
  const std::string received = ". Received: x.shape=" + ShapeText(in) + ", filters.shape=" +
                               ShapeText(f) + ", groups=" + std::to_string(o.groups);
  const std::string rule = CheckChannels(in, f, o.groups);
  if (!rule.empty()) return rule + received;
  const Padded padded(in, f, o);
  if (padded.rows < 0 || padded.columns < 0) {
    return "The window must fit into the padded image at least once" + received + padded.text() +
           ", dilations=" + ShapeText({o.dilation_h, o.dilation_w});
  }
  *shape = {in[0],        in[1],        in[2],     in[3],      f[0],
            f[1],         f[3],         o.groups,  o.stride_h, o.stride_w,
            o.dilation_h, o.dilation_w, o.pad_top, o.pad_left, padded.rows / o.stride_h + 1,
            padded.columns / o.stride_w + 1};
  if (CanBeAllocated(*shape, padded)) return "";
  return "x, the padded image and the output must hold at most " + std::to_string(kMostNumbers) +
         " numbers" + received + padded.text();
}

}  // namespace pkkd
