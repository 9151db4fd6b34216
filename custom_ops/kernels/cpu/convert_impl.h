// Rows of numbers from and to a storage type, by the instructions this file is compiled for.
#include <cstring>

#include "custom_ops/kernels/cpu/number_types.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {
namespace {

template <typename T>
void ToFloatRow(const T* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(in[i]);
}

template <typename T>
void FromFloatRow(const float* in, int64_t count, T* out) {
  for (int64_t i = 0; i < count; ++i) FromFloat(in[i], out + i);
}

#ifdef __F16C__
template <>
void ToFloatRow(const Float16* in, int64_t count, float* out) {
  for (; count >= 8; count -= 8, in += 8, out += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    _mm256_storeu_ps(out, _mm256_cvtph_ps(bits));
  }
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(in[i]);
}

template <>
void FromFloatRow(const float* in, int64_t count, Float16* out) {
  for (; count >= 8; count -= 8, in += 8, out += 8) {
    const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(in), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bits);
  }
  for (int64_t i = 0; i < count; ++i) FromFloat(in[i], out + i);
}
#endif

void ToFloatType(DataType type, const void* in, int64_t count, float* out) {
  if (type == DataType::kFloat32) memcpy(out, in, count * sizeof(float));
  if (type == DataType::kBFloat16) ToFloatRow(static_cast<const BFloat16*>(in), count, out);
  if (type == DataType::kFloat16) ToFloatRow(static_cast<const Float16*>(in), count, out);
}

void FromFloatType(DataType type, const float* in, int64_t count, void* out) {
  if (type == DataType::kFloat32) memcpy(out, in, count * sizeof(float));
  if (type == DataType::kBFloat16) FromFloatRow(in, count, static_cast<BFloat16*>(out));
  if (type == DataType::kFloat16) FromFloatRow(in, count, static_cast<Float16*>(out));
}

}  // namespace
}  // namespace pkkd
