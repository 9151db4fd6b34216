// From device memory to shared memory: pixels under taps, and filters. Where rows of channels can
// be moved by quads, a loader fetches its next part into registers while the block still sums up
// the last one, and stores it afterwards; else it moves number by number when it stores.
#ifndef CUSTOM_OPS_KERNELS_CUDA_GATHER_CUH_
#define CUSTOM_OPS_KERNELS_CUDA_GATHER_CUH_

#include "custom_ops/kernels/cuda/platform.cuh"
#include "custom_ops/kernels/cuda/tiles.cuh"

namespace pkkd {

// Where one of a block's pixels has its first tap in the gathered image, and its results. Kept in
// shared memory, to leave the registers to the sums.
struct alignas(16) Placement {
  int image;   // of the batch
  int row, column;
  int result;  // offset of the block's first channel; -1: there is no such pixel
};
constexpr Placement kNowhere = {0, -(1 << 30), 0, -1};  // no step leads back into an image

// The index of the sum: (row, column) of the tap, channel within the group. Sums end at
// row == Image::tap_rows.
struct Term {
  int row, column, channel;
};

// An image tensor, seen from one group.
struct Image {
  int height, width, pitch;      // pitch: channels of all groups
  int row_step, column_step;     // pixels from tap to tap
  int tap_rows, tap_columns;
  int depth;                     // channels of the group

  __device__ __forceinline__ int terms() const { return tap_rows * tap_columns * depth; }

  __device__ __forceinline__ void Advance(int by, Term* term) const {
    term->channel += by;
    while (term->channel >= depth) {
      term->channel -= depth;
      if (++term->column == tap_columns) {
        term->column = 0;
        ++term->row;
      }
    }
  }
};

__device__ __forceinline__ bool IsFinite(float value) { return fabsf(value) <= 3.40282347e38f; }

template <typename T>
__device__ __forceinline__ Quad<T> Zeros() {
  Quad<T> quad;
  PKKD_UNROLL
  for (int e = 0; e < 4; ++e) quad.v[e] = FromFloat32<T>(0);
  return quad;
}

// How threads share kItems x kDepth numbers whose memory runs along the depth: a thread takes one
// quad of the depth, always the same, of several items. The two lanes of a pair read 8 neighbours,
// and a warp's stores to the transposed tile (rows of kPitch) meet 32 banks.
template <int kItems, int kDepth>
struct Spread {
  static constexpr int kQuads = kDepth / 4;
  static_assert(kQuads == 2 || kQuads == 4, "");
  static constexpr int kStep = kThreads / kQuads;
  static constexpr int kPasses = (kItems + kStep - 1) / kStep;
  static constexpr int kPitch = kItems + 4;

  static __device__ __forceinline__ int FirstTerm() {
    return 4 * (kQuads == 2 ? threadIdx.x & 1 : (threadIdx.x & 1) | (threadIdx.x >> 4 & 2));
  }
  static __device__ __forceinline__ int Item(int pass) {
    const int first = kQuads == 2 ? threadIdx.x >> 1
                                  : (threadIdx.x >> 1 & 15) | (threadIdx.x >> 6 << 4);
    return first + pass * kStep;
  }
  static __device__ __forceinline__ bool Has(int pass) {
    return kItems % kStep == 0 || Item(pass) < kItems;
  }
};

// Pixels of an image under the taps, kItems at a time.
template <typename T, int kItems, int kDepth>
class Pixels {
 public:
  using Layout = Spread<kItems, kDepth>;

  __device__ __forceinline__ void FetchQuads(const Image& image,
                                             const Placement (&placements)[kItems],
                                             const T* tensor, const Term& term) {
    PKKD_UNROLL
    for (int pass = 0; pass < Layout::kPasses; ++pass) {
      const int offset = Offset(image, placements, term, pass);
      quad_[pass] = offset >= 0 ? LoadQuad(tensor + offset) : Zeros<T>();
    }
  }

  // tile[k][item] = convert(value, pass).
  template <typename S, typename Convert>
  __device__ __forceinline__ void StoreQuads(S (*tile)[Layout::kPitch],
                                             const Convert& convert) const {
    PKKD_UNROLL
    for (int pass = 0; pass < Layout::kPasses; ++pass) {
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        tile[Layout::FirstTerm() + e][Layout::Item(pass)] = convert(quad_[pass].v[e], pass);
      }
    }
  }

  // Both at once, without quads.
  template <typename S, typename Convert>
  static __device__ __forceinline__ void Move(const Image& image,
                                              const Placement (&placements)[kItems],
                                              const T* tensor, Term term,
                                              S (*tile)[Layout::kPitch], const Convert& convert) {
    PKKD_NO_UNROLL
    for (int e = 0; e < 4; ++e) {
      PKKD_UNROLL
      for (int pass = 0; pass < Layout::kPasses; ++pass) {
        const int offset = Offset(image, placements, term, pass);
        const T value = offset >= 0 ? tensor[offset] : FromFloat32<T>(0);
        tile[Layout::FirstTerm() + e][Layout::Item(pass)] = convert(value, pass);
      }
      image.Advance(1, &term);
    }
  }

 private:
  static __device__ __forceinline__ int Offset(const Image& image,
                                               const Placement (&placements)[kItems],
                                               const Term& term, int pass) {
    const Placement place = placements[Layout::Item(pass)];
    const int row = place.row + term.row * image.row_step;
    const int column = place.column + term.column * image.column_step;
    const bool inside = term.row < image.tap_rows && unsigned(row) < unsigned(image.height) &&
                        unsigned(column) < unsigned(image.width);
    if (!inside) return -1;  // far outside the product below would overflow
    const int pixel = (place.image * image.height + row) * image.width + column;
    return pixel * image.pitch + term.channel;
  }

  Quad<T> quad_[Layout::kPasses];
};

// Rows of filters (k, output): memory runs along the outputs, and so does the tile.
template <typename T, int kItems, int kDepth>
class FilterRows {
 public:
  static constexpr int kAcross = kItems / 4;
  static constexpr int kCount = kAcross * kDepth;
  static constexpr int kPasses = (kCount + kThreads - 1) / kThreads;
  static constexpr int kPitch = kItems + 4;

  // `filters` at row 0 and the block's first output, of which there are `items`.
  __device__ __forceinline__ void FetchQuads(const T* filters, int pitch, int first_term,
                                             int terms, int items) {
    PKKD_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      const int k = first_term + Row(pass), item = Item(pass);
      quad_[pass] = k < terms && Has(pass) && item < items ? LoadQuad(filters + k * pitch + item)
                                                           : Zeros<T>();
    }
  }

  template <typename S, typename Convert>
  __device__ __forceinline__ void StoreQuads(S (*tile)[kPitch], const Convert& convert) const {
    PKKD_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      if (!Has(pass)) continue;
      Quad<S> quad;
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) quad.v[e] = convert(quad_[pass].v[e]);
      StoreQuad(&tile[Row(pass)][Item(pass)], quad);
    }
  }

  template <typename S, typename Convert>
  static __device__ __forceinline__ void Move(const T* filters, int pitch, int first_term,
                                              int terms, int items, S (*tile)[kPitch],
                                              const Convert& convert) {
    PKKD_NO_UNROLL
    for (int i = threadIdx.x; i < 4 * kCount; i += kThreads) {
      const int row = i / kItems, item = i % kItems, k = first_term + row;
      tile[row][item] =
          convert(k < terms && item < items ? filters[k * pitch + item] : FromFloat32<T>(0));
    }
  }

 private:
  static __device__ __forceinline__ int Index(int pass) { return threadIdx.x + pass * kThreads; }
  static __device__ __forceinline__ int Row(int pass) { return Index(pass) / kAcross; }
  static __device__ __forceinline__ int Item(int pass) { return Index(pass) % kAcross * 4; }
  static __device__ __forceinline__ bool Has(int pass) {
    return kCount % kThreads == 0 || Index(pass) < kCount;
  }

  Quad<T> quad_[kPasses];
};

// The taps of one phase within the filters.
struct Taps {
  int first_row, row_step, first_column, column_step;
  int kernel_columns, group_channels, outputs;

  // Element (0, 0) of the tap's (channel, output) matrix.
  __device__ __forceinline__ int Offset(int row, int column) const {
    const int i = first_row + row * row_step, j = first_column + column * column_step;
    return (i * kernel_columns + j) * group_channels * outputs;
  }
};

// Filters as columns (channel, k) with k = (tap, output): memory runs along k.
template <typename T, int kItems, int kDepth>
class FilterColumns {
 public:
  using Layout = Spread<kItems, kDepth>;

  // `filters` at the block's first channel and the group's first output; `gradient` has the terms.
  __device__ __forceinline__ void FetchQuads(const Taps& taps, const Image& gradient,
                                             const T* filters, int items, const Term& term) {
    const T* const row = Row(taps, filters, term);
    PKKD_UNROLL
    for (int pass = 0; pass < Layout::kPasses; ++pass) {
      const int item = Layout::Item(pass);
      const bool exists = term.row < gradient.tap_rows && item < items && Layout::Has(pass);
      quad_[pass] = exists ? LoadQuad(row + item * taps.outputs) : Zeros<T>();
    }
  }

  // tile[k][item] = convert(value, item).
  template <typename Convert>
  __device__ __forceinline__ void StoreQuads(float (*tile)[Layout::kPitch],
                                             const Convert& convert) const {
    PKKD_UNROLL
    for (int pass = 0; pass < Layout::kPasses; ++pass) {
      if (!Layout::Has(pass)) continue;
      PKKD_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int item = Layout::Item(pass);
        tile[Layout::FirstTerm() + e][item] = convert(quad_[pass].v[e], item);
      }
    }
  }

  template <typename Convert>
  static __device__ __forceinline__ void Move(const Taps& taps, const Image& gradient,
                                              const T* filters, int items, Term term,
                                              float (*tile)[Layout::kPitch],
                                              const Convert& convert) {
    PKKD_NO_UNROLL
    for (int e = 0; e < 4; ++e) {
      const T* const row = Row(taps, filters, term);
      PKKD_UNROLL
      for (int pass = 0; pass < Layout::kPasses; ++pass) {
        const int item = Layout::Item(pass);
        if (!Layout::Has(pass)) continue;
        const bool exists = term.row < gradient.tap_rows && item < items;
        tile[Layout::FirstTerm() + e][item] =
            convert(exists ? row[item * taps.outputs] : FromFloat32<T>(0), item);
      }
      gradient.Advance(1, &term);
    }
  }

 private:
  static __device__ __forceinline__ const T* Row(const Taps& taps, const T* filters,
                                                 const Term& term) {
    return filters + taps.Offset(term.row, term.column) + term.channel;
  }

  Quad<T> quad_[Layout::kPasses];
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CUDA_GATHER_CUH_
