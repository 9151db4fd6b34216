#include "custom_ops/kernels/cpu/reference.h"

#include <algorithm>
#include <cmath>

#include "custom_ops/kernels/cpu/number_types.h"

namespace pkkd {
namespace {

double SlopeOf(double z, Slope slope) {
  if (std::isnan(z)) return z;
  if (slope == Slope::kSign) return double(z > 0) - double(z < 0);
  return std::min(1.0, std::max(-1.0, z));
}

template <typename T>
T Round(double value) {
  T result;
  FromFloat(float(value), &result);
  return result;
}

template <typename T>
double Pixel(const AdderShape& s, const T* x, int64_t n, int64_t h, int64_t w, int64_t c) {
  if (h < 0 || h >= s.height || w < 0 || w >= s.width) return 0;
  return ToFloat(x[((n * s.height + h) * s.width + w) * s.channels + c]);
}

template <typename T>
double Filter(const AdderShape& s, const T* f, int64_t i, int64_t j, int64_t c, int64_t o) {
  return ToFloat(f[((i * s.kernel_width + j) * s.group_channels() + c) * s.outputs + o]);
}

template <typename T>
double Response(const AdderShape& s, const T* x, const T* f, int64_t n, int64_t p, int64_t q,
                int64_t o) {
  const int64_t first_channel = o / s.group_outputs() * s.group_channels();
  double sum = 0;
  for (int64_t i = 0; i < s.kernel_height; ++i) {
    for (int64_t j = 0; j < s.kernel_width; ++j) {
      const int64_t h = p * s.stride_height - s.pad_top + i * s.dilation_height;
      const int64_t w = q * s.stride_width - s.pad_left + j * s.dilation_width;
      for (int64_t c = 0; c < s.group_channels(); ++c) {
        sum += std::fabs(Pixel(s, x, n, h, w, first_channel + c) - Filter(s, f, i, j, c, o));
      }
    }
  }
  return 0 - sum;
}

template <typename T>
void Forward(const AdderShape& s, const T* x, const T* f, T* y) {
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t p = 0; p < s.output_height; ++p) {
      for (int64_t q = 0; q < s.output_width; ++q) {
        for (int64_t o = 0; o < s.outputs; ++o) {
          *y++ = Round<T>(Response(s, x, f, n, p, q, o));
        }
      }
    }
  }
}

// The output row that sees image row `h` under tap `i`, or -1.
int64_t OutputIndex(int64_t h, int64_t pad, int64_t i, int64_t dilation, int64_t stride,
                    int64_t outputs) {
  const int64_t position = h + pad - i * dilation;
  if (position < 0 || position % stride != 0 || position / stride >= outputs) return -1;
  return position / stride;
}

template <typename T>
double InputGradient(const AdderShape& s, Slope slope, const T* x, const T* f, const T* g,
                     int64_t n, int64_t h, int64_t w, int64_t c) {
  const double value = Pixel(s, x, n, h, w, c);
  const int64_t group = c / s.group_channels(), first = group * s.group_outputs();
  double sum = 0;
  for (int64_t i = 0; i < s.kernel_height; ++i) {
    const int64_t p = OutputIndex(h, s.pad_top, i, s.dilation_height, s.stride_height,
                                  s.output_height);
    if (p < 0) continue;
    for (int64_t j = 0; j < s.kernel_width; ++j) {
      const int64_t q = OutputIndex(w, s.pad_left, j, s.dilation_width, s.stride_width,
                                    s.output_width);
      if (q < 0) continue;
      const T* gradient = g + ((n * s.output_height + p) * s.output_width + q) * s.outputs;
      for (int64_t o = first; o < first + s.group_outputs(); ++o) {
        const double z = Filter(s, f, i, j, c % s.group_channels(), o) - value;
        sum += SlopeOf(z, slope) * double(ToFloat(gradient[o]));
      }
    }
  }
  return sum;
}

template <typename T>
void InputGradientRows(const AdderShape& s, Slope slope, const T* x, const T* f, const T* g,
                       T* dx, int64_t n, int64_t first_row, int64_t last_row) {
  dx += (n * s.height + first_row) * s.width * s.channels;
  for (int64_t h = first_row; h < last_row; ++h) {
    for (int64_t w = 0; w < s.width; ++w) {
      for (int64_t c = 0; c < s.channels; ++c) {
        *dx++ = Round<T>(InputGradient(s, slope, x, f, g, n, h, w, c));
      }
    }
  }
}

// Calls call(T*) with a null pointer of the storage type.
template <typename Call>
void WithType(DataType type, const Call& call) {
  if (type == DataType::kFloat32) call(static_cast<float*>(nullptr));
  if (type == DataType::kBFloat16) call(static_cast<BFloat16*>(nullptr));
  if (type == DataType::kFloat16) call(static_cast<Float16*>(nullptr));
}

}  // namespace

void AdderForwardReference(const AdderShape& shape, DataType type, const void* x,
                           const void* filters, void* y) {
  WithType(type, [&](auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    Forward(shape, static_cast<const T*>(x), static_cast<const T*>(filters), static_cast<T*>(y));
  });
}

void AdderInputGradientReference(const AdderShape& shape, DataType type, Slope slope,
                                 const void* x, const void* filters, const void* gradient,
                                 void* dx, int64_t image, int64_t first_row, int64_t last_row) {
  WithType(type, [&](auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    InputGradientRows(shape, slope, static_cast<const T*>(x), static_cast<const T*>(filters),
                      static_cast<const T*>(gradient), static_cast<T*>(dx), image, first_row,
                      last_row);
  });
}

}  // namespace pkkd
