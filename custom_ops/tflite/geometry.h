// Sizes of tensors, and what the kernels want to know of an adder operator's.
#ifndef CUSTOM_OPS_TFLITE_GEOMETRY_H_
#define CUSTOM_OPS_TFLITE_GEOMETRY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"
#include "custom_ops/tflite/options.h"
#include "custom_ops/tflite/tflite_abi.h"

namespace pkkd {

std::vector<int64_t> Dims(const TfLiteTensor& tensor);

// (8, 32, 32, 16)
std::string ShapeText(const std::vector<int64_t>& dims);
std::string ShapeText(const TfLiteTensor& tensor);

// The numbers that a tensor of these sizes holds, or -1 if a size is negative or they are more than
// a damaged model may make the kernel allocate.
int64_t CountNumbers(const std::vector<int64_t>& dims);

// Checks x against filters and options. Returns an empty string, or what is wrong, in two sentences.
std::string MakeAdderShape(const TfLiteTensor& x, const TfLiteTensor& filters,
                           const AdderOptions& options, AdderShape* shape);

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_GEOMETRY_H_
