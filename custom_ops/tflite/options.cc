#include "custom_ops/tflite/options.h"

#include <map>

#include "custom_ops/kernels/cpu/int8.h"
#include "custom_ops/tflite/flexbuffer.h"

namespace pkkd {
namespace {

// Which operators have an option.
enum class Of { kAll, kAnyOptional, kFloat32Optional, kInt8, kInt8Optional };

struct Field {
  const char* name;
  int64_t AdderOptions::*value;
  int64_t least, most;
  Of of;
};

constexpr int64_t kMost = 65535;
constexpr int64_t kMostInt32 = (int64_t{1} << 31) - 1;
constexpr Field kFields[] = {
    {"stride_h", &AdderOptions::stride_h, 1, kMost, Of::kAll},
    {"stride_w", &AdderOptions::stride_w, 1, kMost, Of::kAll},
    {"pad_top", &AdderOptions::pad_top, 0, kMost, Of::kAll},
    {"pad_bottom", &AdderOptions::pad_bottom, 0, kMost, Of::kAll},
    {"pad_left", &AdderOptions::pad_left, 0, kMost, Of::kAll},
    {"pad_right", &AdderOptions::pad_right, 0, kMost, Of::kAll},
    {"dilation_h", &AdderOptions::dilation_h, 1, kMost, Of::kAll},
    {"dilation_w", &AdderOptions::dilation_w, 1, kMost, Of::kAll},
    {"groups", &AdderOptions::groups, 1, kMost, Of::kAll},
    {"residual", &AdderOptions::residual, 0, 1, Of::kAnyOptional},
    {"affine", &AdderOptions::affine, 0, 1, Of::kFloat32Optional},
    {"relu", &AdderOptions::relu, 0, 1, Of::kFloat32Optional},
    {"zero", &AdderOptions::zero, -128, 127, Of::kInt8},
    {"shift", &AdderOptions::shift, 1, kMostInt8Shift, Of::kInt8},
    {"low", &AdderOptions::low, -128, 127, Of::kInt8},
    {"high", &AdderOptions::high, -128, 127, Of::kInt8},
    {"residual_multiplier", &AdderOptions::residual_multiplier, -kMostInt32 - 1, kMostInt32,
     Of::kInt8Optional},
};

uint32_t Bit(const Field& field) { return uint32_t{1} << (&field - kFields); }

bool IsGiven(const AdderOptions& options, const Field& field) {
  return (options.given & Bit(field)) != 0;
}

std::string Missing(const std::string& name) {
  return "AdderConv2D needs the option " + name + ". Received: options without it";
}

std::string Text(const std::string& name, int64_t value) {
  return name + "=" + std::to_string(value);
}

std::string ReadField(const Field& field, std::map<std::string, int64_t>* values,
                      AdderOptions* options) {
  const auto found = values->find(field.name);
  if (found == values->end()) return field.of == Of::kAll ? Missing(field.name) : "";
  const int64_t value = found->second;
  values->erase(found);
  if (value < field.least || value > field.most) {
    return std::string("The option ") + field.name + " must be from " +
           std::to_string(field.least) + " to " + std::to_string(field.most) +
           ". Received: " + Text(field.name, value);
  }
  options->*field.value = value;
  options->given |= Bit(field);
  return "";
}

std::string CheckField(const AdderOptions& options, Numbers numbers, const Field& field) {
  const bool is_int8 = numbers == Numbers::kInt8;
  if (IsGiven(options, field)) {
    const bool only_int8 = field.of == Of::kInt8 || field.of == Of::kInt8Optional;
    if (!(is_int8 ? field.of == Of::kFloat32Optional : only_int8)) return "";
    return std::string("The option ") + field.name + " belongs to AdderConv2D of " +
           (is_int8 ? "float32" : "int8") + ", and x decides. Received: x of " +
           (is_int8 ? "int8, " : "float32, ") + Text(field.name, options.*field.value);
  }
  const bool with_residual = field.of == Of::kInt8Optional && options.residual;
  return is_int8 && (field.of == Of::kInt8 || with_residual) ? Missing(field.name) : "";
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

std::string CheckOptions(const AdderOptions& options, Numbers numbers) {
  for (const Field& field : kFields) {
    const std::string error = CheckField(options, numbers, field);
    if (!error.empty()) return error;
  }
  if (options.low > options.high) {
    return "The option low must be at most high. Received: " + Text("low", options.low) + ", " +
           Text("high", options.high);
  }
  if (!options.residual && options.residual_multiplier != 0) {
    return "The option residual_multiplier must be 0 without a residual. Received: " +
           Text("residual_multiplier", options.residual_multiplier);
  }
  return "";
}

}  // namespace pkkd
