// Conversions between the storage types and float32, one number at a time, rounding to nearest
// even. Internal linkage: every translation unit compiles its own copy with its own flags.
#ifndef CUSTOM_OPS_KERNELS_CPU_NUMBER_TYPES_H_
#define CUSTOM_OPS_KERNELS_CPU_NUMBER_TYPES_H_

#include <cstdint>
#include <cstring>

namespace pkkd {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline uint32_t Bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float FromBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline float ToFloat(float value) { return value; }

inline float ToFloat(BFloat16 value) { return FromBits(uint32_t{value.bits} << 16); }

inline float ToFloat(Float16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000) << 16;
  const uint32_t magnitude = value.bits & 0x7fff;
  if (magnitude >= 0x7c00) return FromBits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude >= 0x0400) return FromBits(sign | ((magnitude << 13) + (112u << 23)));
  const float subnormal = float(magnitude) * FromBits(103u << 23);  // magnitude * 2^-24
  return FromBits(sign | Bits(subnormal));
}

inline void FromFloat(float value, float* out) { *out = value; }

inline void FromFloat(float value, BFloat16* out) {
  const uint32_t bits = Bits(value);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  out->bits = uint16_t((nan ? bits | 0x400000 : rounded) >> 16);
}

inline void FromFloat(float value, Float16* out) {
  const uint32_t bits = Bits(value), magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;  // rounds to 65536 or more: infinity
  } else if (magnitude >= 0x38800000) {
    half = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  } else {
    // Adding 0.5 aligns the last kept bit with 2^-24, and the processor rounds.
    half = Bits(FromBits(magnitude) + 0.5f) - Bits(0.5f);
  }
  out->bits = uint16_t(half | (bits >> 16 & 0x8000));
}

}  // namespace
}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_NUMBER_TYPES_H_
