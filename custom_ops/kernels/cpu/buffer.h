// Scratch memory: aligned to cache lines, not initialised.
#ifndef CUSTOM_OPS_KERNELS_CPU_BUFFER_H_
#define CUSTOM_OPS_KERNELS_CPU_BUFFER_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace pkkd {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (count * sizeof(T) / kAlignment + 1) * kAlignment;
    data_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_BUFFER_H_
