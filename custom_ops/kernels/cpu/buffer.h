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
  // Throws std::bad_alloc where there is no such memory.
  explicit Buffer(int64_t count) {
    if (count < 0 || count > kMostBytes / int64_t{sizeof(T)}) throw std::bad_alloc();
    const size_t bytes = (count * sizeof(T) / kAlignment + 1) * kAlignment;
    data_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kAlignment = 64;
  static constexpr int64_t kMostBytes = PTRDIFF_MAX - int64_t{kAlignment};
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_BUFFER_H_
