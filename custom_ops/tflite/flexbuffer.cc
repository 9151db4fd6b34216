#include "custom_ops/tflite/flexbuffer.h"

#include <cstring>

namespace pkkd {
namespace {

// FlexBuffers' numbers of these types.
enum Type { kInt = 1, kUInt = 2, kMap = 9, kBool = 26 };

class Bytes {
 public:
  Bytes(const void* data, size_t size) : data_(static_cast<const uint8_t*>(data)), size_(size) {}

  // The unsigned number of `width` bytes at `position`, little-endian.
  bool Read(size_t position, size_t width, uint64_t* value) const {
    if (!(width == 1 || width == 2 || width == 4 || width == 8)) return false;
    if (position > size_ || width > size_ - position) return false;
    *value = 0;
    std::memcpy(value, data_ + position, width);
    return true;
  }

  // The place that the offset at `position` points back to.
  bool Follow(size_t position, size_t width, size_t* target) const {
    uint64_t offset;
    if (!Read(position, width, &offset) || offset > position) return false;
    *target = position - offset;
    return true;
  }

  bool ReadString(size_t position, std::string* text) const {
    if (position >= size_) return false;
    const void* end = std::memchr(data_ + position, 0, size_ - position);
    if (end == nullptr) return false;
    text->assign(reinterpret_cast<const char*>(data_ + position));
    return true;
  }

 private:
  const uint8_t* const data_;
  const size_t size_;
};

int64_t SignExtended(uint64_t value, size_t width) {
  const int unused = 64 - 8 * static_cast<int>(width);
  return static_cast<int64_t>(value << unused) >> unused;
}

struct Map {
  size_t values, width, count;
  size_t keys, key_width;
};

bool FindMap(const Bytes& bytes, size_t size, Map* map) {
  uint64_t root_width, packed_type, key_width, count, key_count;
  if (size < 3 || !bytes.Read(size - 1, 1, &root_width) || !bytes.Read(size - 2, 1, &packed_type)) {
    return false;
  }
  if (packed_type >> 2 != kMap || root_width > size - 2) return false;
  if (!bytes.Follow(size - 2 - root_width, root_width, &map->values)) return false;
  map->width = size_t{1} << (packed_type & 3);
  // Before the values: offset of the keys, width of the keys, count.
  if (map->values < 3 * map->width) return false;
  if (!bytes.Follow(map->values - 3 * map->width, map->width, &map->keys) ||
      !bytes.Read(map->values - 2 * map->width, map->width, &key_width) ||
      !bytes.Read(map->values - map->width, map->width, &count)) {
    return false;
  }
  if (key_width > map->keys || !bytes.Read(map->keys - key_width, key_width, &key_count)) {
    return false;
  }
  map->key_width = key_width;
  map->count = count;
  return count == key_count && count <= size;
}

}  // namespace

bool ReadIntegerMap(const void* data, size_t size, std::map<std::string, int64_t>* values) {
  if (data == nullptr) return false;
  const Bytes bytes(data, size);
  Map map;
  if (!FindMap(bytes, size, &map)) return false;
  for (size_t i = 0; i < map.count; ++i) {
    size_t key_position;
    std::string key;
    uint64_t value, packed_type;
    if (!bytes.Follow(map.keys + i * map.key_width, map.key_width, &key_position) ||
        !bytes.ReadString(key_position, &key) ||
        !bytes.Read(map.values + i * map.width, map.width, &value) ||
        !bytes.Read(map.values + map.count * map.width + i, 1, &packed_type)) {
      return false;
    }
    const uint64_t type = packed_type >> 2;
    if (type != kInt && type != kUInt && type != kBool) return false;
    const bool is_signed = type == kInt;
    if (!values->emplace(key, is_signed ? SignExtended(value, map.width) : value).second) {
      return false;
    }
  }
  return true;
}

}  // namespace pkkd
