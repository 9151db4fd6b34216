// Reads the options of a custom operator: a FlexBuffer that holds a map of integers.
#ifndef CUSTOM_OPS_TFLITE_FLEXBUFFER_H_
#define CUSTOM_OPS_TFLITE_FLEXBUFFER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace pkkd {

// Returns false, whatever the bytes are, if they are no such map; reads none outside of them.
bool ReadIntegerMap(const void* data, size_t size, std::map<std::string, int64_t>* values);

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_FLEXBUFFER_H_
