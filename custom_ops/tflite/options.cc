#include "custom_ops/tflite/options.h"

#include <map>

#include "custom_ops/tflite/flexbuffer.h"

namespace pkkd {
namespace {

struct Field {
  const char* name;
  int64_t AdderOptions::*value;
  int64_t least, most;
  bool required;
};

constexpr int64_t kMost = 65535;
constexpr Field kFields[] = {
    {"stride_h", &AdderOptions::stride_h, 1, kMost, true},
    {"stride_w", &AdderOptions::stride_w, 1, kMost, true},
    {"pad_top", &AdderOptions::pad_top, 0, kMost, true},
    {"pad_bottom", &AdderOptions::pad_bottom, 0, kMost, true},
    {"pad_left", &AdderOptions::pad_left, 0, kMost, true},
    {"pad_right", &AdderOptions::pad_right, 0, kMost, true},
    {"dilation_h", &AdderOptions::dilation_h, 1, kMost, true},
    {"dilation_w", &AdderOptions::dilation_w, 1, kMost, true},
    {"groups", &AdderOptions::groups, 1, kMost, true},
    {"affine", &AdderOptions::affine, 0, 1, false},
    {"residual", &AdderOptions::residual, 0, 1, false},
    {"relu", &AdderOptions::relu, 0, 1, false},
};

std::string ReadField(const Field& field, std::map<std::string, int64_t>* values,
                      AdderOptions* options) {
  const auto found = values->find(field.name);
  if (found == values->end()) {
    if (!field.required) return "";
    return std::string("AdderConv2D needs the option ") + field.name +
           ". Received: options without it";
  }
  const int64_t value = found->second;
  values->erase(found);
  if (value < field.least || value > field.most) {
    return std::string("The option ") + field.name + " must be from " +
           std::to_string(field.least) + " to " + std::to_string(field.most) +
           ". Received: " + field.name + "=" + std::to_string(value);
  }
  options->*field.value = value;
  return "";
}

}  // namespace

std::string ReadOptions(const void* data, size_t size, AdderOptions* options) {
  std::map<std::string, int64_t> values;
  if (!ReadIntegerMap(data, size, &values)) {
    return "The options of AdderConv2D must be a FlexBuffer map of integers. Received: " +
           std::to_string(size) + " bytes that are not";
  }
  *options = {};
  for (const Field& field : kFields) {
    const std::string error = ReadField(field, &values, options);
    if (!error.empty()) return error;
  }
  if (values.empty()) return "";
  return "The options of AdderConv2D must be known to this delegate. Received: option \"" +
         values.begin()->first + "\"";
}

}  // namespace pkkd
