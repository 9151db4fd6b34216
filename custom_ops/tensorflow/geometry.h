// Checks the attributes and shapes of the adder operations and resolves them to kernel sizes.
#ifndef CUSTOM_OPS_TENSORFLOW_GEOMETRY_H_
#define CUSTOM_OPS_TENSORFLOW_GEOMETRY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "custom_ops/kernels/cpu/adder.h"

namespace pkkd {

// The attributes both operations share; pairs are (height, width).
struct Attributes {
  std::vector<int32_t> strides, dilations;
  std::string padding;                     // "SAME", "VALID" or "EXPLICIT"
  std::vector<int32_t> explicit_paddings;  // top, bottom, left, right; empty unless "EXPLICIT"
  int64_t groups = 1;

  // Works on an OpKernelConstruction and on a shape_inference::InferenceContext.
  template <typename Context>
  absl::Status Read(Context* context) {
    absl::Status status = context->GetAttr("strides", &strides);
    if (status.ok()) status = context->GetAttr("dilations", &dilations);
    if (status.ok()) status = context->GetAttr("padding", &padding);
    if (status.ok()) status = context->GetAttr("explicit_paddings", &explicit_paddings);
    if (status.ok()) status = context->GetAttr("groups", &groups);
    return status.ok() ? Check() : status;
  }

  absl::Status Check() const;
};

// Sizes of a tensor; kUnknown where shape inference knows none.
using Sizes = std::vector<int64_t>;
constexpr int64_t kUnknown = -1;

// Checks x (N, H, W, C) against filters (kh, kw, C / groups, O) as far as they are known, and
// returns the sizes of the response (N, P, Q, O).
absl::Status ResponseSizes(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                           Sizes* response);

// The kernels' description of known sizes; checks like ResponseSizes.
absl::Status MakeAdderShape(const Attributes& attributes, const Sizes& x, const Sizes& filters,
                            AdderShape* shape);

std::string ToString(const Sizes& sizes);  // (8, 32, ?, 16)

}  // namespace pkkd

#endif  // CUSTOM_OPS_TENSORFLOW_GEOMETRY_H_
