// The interface of the adder operations: attributes, allowed values, shape functions.
#include "absl/strings/str_cat.h"
#include "custom_ops/tensorflow/geometry.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace pkkd {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

Sizes SizesOf(InferenceContext* context, ShapeHandle shape) {
  Sizes sizes;
  for (int i = 0; i < context->Rank(shape); ++i) {
    sizes.push_back(context->Value(context->Dim(shape, i)));
  }
  return sizes;
}

// An unknown rank is 4 until the kernel sees the tensor.
absl::Status FourDimensions(InferenceContext* context, int input, ShapeHandle* shape) {
  *shape = context->input(input);
  if (!context->RankKnown(*shape)) *shape = context->UnknownShapeOfRank(4);
  return absl::OkStatus();
}

absl::Status InferResponse(InferenceContext* context, ShapeHandle* x, ShapeHandle* response) {
  Attributes attributes;
  ShapeHandle filters;
  Sizes sizes;
  absl::Status status = attributes.Read(context);
  if (status.ok()) status = FourDimensions(context, 0, x);
  if (status.ok()) status = FourDimensions(context, 1, &filters);
  if (status.ok()) {
    status = ResponseSizes(attributes, SizesOf(context, *x), SizesOf(context, filters), &sizes);
  }
  if (!status.ok()) return status;
  std::vector<DimensionHandle> dimensions;
  for (const int64_t size : sizes) {
    dimensions.push_back(size == kUnknown ? context->UnknownDim() : context->MakeDim(size));
  }
  *response = context->MakeShape(dimensions);
  return absl::OkStatus();
}

absl::Status ResponseShape(InferenceContext* context) {
  ShapeHandle x, response;
  const absl::Status status = InferResponse(context, &x, &response);
  if (status.ok()) context->set_output(0, response);
  return status;
}

absl::Status InputGradientShape(InferenceContext* context) {
  ShapeHandle x, response, gradient;
  absl::Status status = InferResponse(context, &x, &response);
  if (status.ok() && !context->Merge(context->input(2), response, &gradient).ok()) {
    status = absl::InvalidArgumentError(absl::StrCat(
        "`gradient` must have the shape of the response. Received: gradient.shape=",
        ToString(SizesOf(context, context->input(2))),
        ", response shape=", ToString(SizesOf(context, response))));
  }
  if (status.ok()) context->set_output(0, x);
  return status;
}

}  // namespace

REGISTER_OP("PkkdAdderConv2D")
    .Input("x: T")
    .Input("filters: T")
    .Output("response: T")
    .Attr("T: {float, bfloat16, half}")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID', 'EXPLICIT'}")
    .Attr("explicit_paddings: list(int) = []")
    .Attr("dilations: list(int) = [1, 1]")
    .Attr("groups: int >= 1 = 1")
    .Attr("input_gradient: {'clipped', 'sign'} = 'clipped'")
    .SetShapeFn(ResponseShape)
    .Doc(R"(
Adder response, the negative L1 distance between image windows and filters.

  Y[n,p,q,o] = -sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|

A zero-padded tap counts: it contributes -|F|. Sums accumulate in float32.
From AdderNet, Chen et al., CVPR 2020, arXiv 1912.13200.

x: images (N, H, W, C).
filters: (kh, kw, C / groups, O); output o sees group o / (O / groups) of the channels.
response: (N, P, Q, O).
strides: height and width, pixels.
padding: SAME as TensorFlow pads, VALID, or EXPLICIT.
explicit_paddings: zero pixels top, bottom, left, right; only with EXPLICIT.
dilations: height and width, pixels from tap to tap.
groups: number of channel groups; C means depthwise.
input_gradient: what the registered gradient computes for x; the response does not depend on it.
)");

REGISTER_OP("PkkdAdderConv2DInputGradient")
    .Input("x: T")
    .Input("filters: T")
    .Input("gradient: T")
    .Output("dx: T")
    .Attr("T: {float, bfloat16, half}")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID', 'EXPLICIT'}")
    .Attr("explicit_paddings: list(int) = []")
    .Attr("dilations: list(int) = [1, 1]")
    .Attr("groups: int >= 1 = 1")
    .Attr("input_gradient: {'clipped', 'sign'} = 'clipped'")
    .SetShapeFn(InputGradientShape)
    .Doc(R"(
AdderNet's input gradient of PkkdAdderConv2D, deliberately not the derivative when clipped.

  dX[n,h,w,c] = sum over (i,j,o) that reach the pixel of HT(F[i,j,c,o] - X[n,h,w,c]) * G[n,p,q,o]

gradient: of the response, (N, P, Q, O).
dx: shape of x.
input_gradient: HT(z) is clamp(z, -1, 1) if clipped, -1, 0 or 1 if sign.
)");

}  // namespace pkkd
