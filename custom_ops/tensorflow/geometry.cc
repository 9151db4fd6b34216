#include "custom_ops/tensorflow/geometry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace pkkd {
namespace {

// No sum or product of the kernels' sizes overflows below that: a pebibyte of float32.
constexpr int64_t kMostNumbers = int64_t{1} << 48;

// Whether the product is at most kMostNumbers; an unknown factor counts as 1.
bool IsBounded(const Sizes& factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor == kUnknown) continue;
    if (factor > kMostNumbers || (factor > 0 && product > kMostNumbers / factor)) return false;
    product *= factor;
  }
  return true;
}

bool IsPositivePair(const std::vector<int32_t>& pair) {
  return pair.size() == 2 && pair[0] > 0 && pair[1] > 0;
}

std::string Text(const std::vector<int32_t>& values) {
  return absl::StrCat("(", absl::StrJoin(values, ", "), ")");
}

absl::Status CheckPair(const std::vector<int32_t>& pair, const char* name) {
  if (IsPositivePair(pair)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", name, "` must be a pair of positive integers. Received: ", name, "=",
                   Text(pair)));
}

absl::Status CheckRanks(const Sizes& x, const Sizes& filters) {
  if (x.size() == 4 && filters.size() == 4) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "`x` must have 4 dimensions (batch, height, width, channels) and `filters` 4 (height, width, "
      "channels / groups, outputs). Received: x.shape=",
      ToString(x), ", filters.shape=", ToString(filters)));
}

absl::Status CheckChannels(const Attributes& attributes, const Sizes& x, const Sizes& filters) {
  const int64_t groups = attributes.groups;
  const bool known = x[3] != kUnknown && filters[2] != kUnknown;
  const std::string received =
      absl::StrCat(" Received: x.shape=", ToString(x), ", filters.shape=", ToString(filters),
                   ", groups=", groups);
  if (filters[2] == 0 || (known && x[3] != filters[2] * groups)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The number of input channels must equal `filters`' third dimension times `groups`.",
        received));
  }
  if (filters[3] != kUnknown && (filters[3] == 0 || filters[3] % groups != 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The number of output channels must be a positive multiple of `groups`.", received));
  }
  return absl::OkStatus();
}

// Zero pixels before and after the image along one axis (0 height, 1 width).
std::pair<int64_t, int64_t> Padding(const Attributes& attributes, int axis, int64_t size,
                                    int64_t window) {
  if (attributes.padding == "VALID") return {0, 0};
  if (attributes.padding == "EXPLICIT") {
    return {attributes.explicit_paddings[2 * axis], attributes.explicit_paddings[2 * axis + 1]};
  }
  const int64_t stride = attributes.strides[axis], outputs = (size + stride - 1) / stride;
  const int64_t total = std::max<int64_t>((outputs - 1) * stride + window - size, 0);
  return {total / 2, total - total / 2};
}

int64_t Window(const Attributes& attributes, int axis, int64_t taps) {
  return attributes.dilations[axis] * (taps - 1) + 1;
}

int64_t OutputSize(const Attributes& attributes, int axis, int64_t size, int64_t taps) {
  if (size == kUnknown || taps == kUnknown) return kUnknown;
  const int64_t window = Window(attributes, axis, taps);
  const auto [before, after] = Padding(attributes, axis, size, window);
  const int64_t room = size + before + after - window;
  return room < 0 || taps == 0 ? 0 : room / attributes.strides[axis] + 1;
}

// Of the image with its padding along one axis.
int64_t PaddedSize(const Attributes& attributes, int axis, int64_t size, int64_t taps) {
  if (size == kUnknown || taps == kUnknown) return kUnknown;
  const auto [before, after] = Padding(attributes, axis, size, Window(attributes, axis, taps));
  return size + before + after;
}

std::string ReceivedWindow(const Attributes& attributes, const Sizes& x, const Sizes& filters) {
  const std::string padding = attributes.padding == "EXPLICIT"
                                  ? Text(attributes.explicit_paddings)
                                  : attributes.padding;
  return absl::StrCat(" Received: x.shape=", ToString(x), ", filters.shape=", ToString(filters),
                      ", padding=", padding, ", dilations=", Text(attributes.dilations));
}

absl::Status CheckFit(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                      const Sizes& response) {
  if (response[1] != 0 && response[2] != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("The window must fit into the padded image at least once.",
                   ReceivedWindow(attributes, x, filters)));
}

absl::Status CheckWindow(const Attributes& attributes, const Sizes& x, const Sizes& filters) {
  if (IsBounded({x[1]}) && IsBounded({x[2]}) && IsBounded({attributes.dilations[0], filters[0]}) &&
      IsBounded({attributes.dilations[1], filters[1]})) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("Images and windows must be at most ", kMostNumbers, " pixels high and wide.",
                   ReceivedWindow(attributes, x, filters)));
}

// Depthwise kernels lay out every input once for each of its outputs.
absl::Status CheckNumbers(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                          const Sizes& response) {
  const int64_t height = PaddedSize(attributes, 0, x[1], filters[0]);
  const int64_t width = PaddedSize(attributes, 1, x[2], filters[1]);
  if (IsBounded({height, width, std::max(x[3], filters[3])}) && IsBounded(response)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "A padded image and the response must hold at most ", kMostNumbers, " numbers.",
      ReceivedWindow(attributes, x, filters), ", response shape=", ToString(response)));
}

}  // namespace

std::string ToString(const Sizes& sizes) {
  return absl::StrCat("(", absl::StrJoin(sizes, ", ", [](std::string* out, int64_t size) {
    absl::StrAppend(out, size == kUnknown ? "?" : absl::StrCat(size));
  }), ")");
}

absl::Status Attributes::Check() const {
  if (absl::Status status = CheckPair(strides, "strides"); !status.ok()) return status;
  if (absl::Status status = CheckPair(dilations, "dilations"); !status.ok()) return status;
  const bool explicit_padding = padding == "EXPLICIT";
  const size_t wanted = explicit_padding ? 4 : 0;
  if (explicit_paddings.size() != wanted ||
      (explicit_padding &&
       *std::min_element(explicit_paddings.begin(), explicit_paddings.end()) < 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`explicit_paddings` must be four numbers of pixels >= 0 (top, bottom, left, right) with "
        "padding \"EXPLICIT\", and empty otherwise. Received: padding=",
        padding, ", explicit_paddings=", Text(explicit_paddings)));
  }
  return absl::OkStatus();
}

absl::Status ResponseSizes(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                           Sizes* response) {
  absl::Status status = CheckRanks(x, filters);
  if (status.ok()) status = CheckChannels(attributes, x, filters);
  if (status.ok()) status = CheckWindow(attributes, x, filters);
  if (!status.ok()) return status;
  *response = {x[0], OutputSize(attributes, 0, x[1], filters[0]),
               OutputSize(attributes, 1, x[2], filters[1]), filters[3]};
  status = CheckFit(attributes, x, filters, *response);
  return status.ok() ? CheckNumbers(attributes, x, filters, *response) : status;
}

absl::Status MakeAdderShape(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                            AdderShape* shape) {
  Sizes response;
  const absl::Status status = ResponseSizes(attributes, x, filters, &response);
  if (!status.ok()) return status;
  const int64_t top = Padding(attributes, 0, x[1], Window(attributes, 0, filters[0])).first;
  const int64_t left = Padding(attributes, 1, x[2], Window(attributes, 1, filters[1])).first;
  *shape = {x[0], x[1], x[2], x[3], filters[0], filters[1], filters[3], attributes.groups,
            attributes.strides[0], attributes.strides[1],
            attributes.dilations[0], attributes.dilations[1],
            top, left, response[1], response[2]};
  return absl::OkStatus();
}

}  // namespace pkkd
