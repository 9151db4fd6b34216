// How both passes lay out their work: panels of filters, runs of a sum, padded float32 strips.
#ifndef CUSTOM_OPS_KERNELS_CPU_LAYOUT_H_
#define CUSTOM_OPS_KERNELS_CPU_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && a % b < 0); }

// Some vectors of a group's channels; packed filters hold `rows` rows of each panel.
struct Panel {
  int64_t first, width;  // channels of the group
  int64_t vectors;       // 1 or 2; lanes behind `width` are zero
  int64_t offset;        // into the packed filters of a group
};
std::vector<Panel> MakePanels(const Tiles& tiles, int64_t channels, int64_t rows);
int64_t PackedFloats(const Tiles& tiles, const std::vector<Panel>& panels, int64_t rows);

// Appends terms to a sum, joined with the last run where both sides go on without a gap.
void AppendRun(int64_t a, int64_t b, int64_t length, std::vector<Run>* runs);
// Cuts long runs and marks where partial sums are flushed: after at most 511 terms.
void FinishRuns(std::vector<Run>* runs);

// A 1x1 window that moves by single pixels over unpadded images sees one long column of pixels.
AdderShape Flattened(const AdderShape& shape);

// Where the pixels of a strip lie, as offsets from its first one. The last tile of pixels may be
// ragged: Finish fills it with the last pixel again.
class PixelOffsets {
 public:
  void Add(int64_t a, int64_t tensor) {
    a_.push_back(a);
    tensor_.push_back(tensor);
  }
  void Finish(int64_t scratch_floats);  // of one pixel

  int64_t pixels() const { return pixels_; }
  const int64_t* a() const { return a_.data(); }            // image side of the inner loops
  const int64_t* tensor() const { return tensor_.data(); }  // y, or x and dx
  const int64_t* scratch() const { return scratch_.data(); }  // a buffer of such pixels

 private:
  std::vector<int64_t> a_, tensor_, scratch_;
  int64_t pixels_ = 0;
};

// A rectangle of one image that may reach over its edges, where it is zero.
struct Window {
  int64_t first_row, rows, first_column, columns;

  int64_t end_row() const { return first_row + rows; }
  int64_t end_column() const { return first_column + columns; }
  bool IsInside(int64_t height, int64_t width) const {
    return first_row >= 0 && first_column >= 0 && end_row() <= height && end_column() <= width;
  }
};
// image (height, width, channels) of `type` to out (window.rows, window.columns, channels).
void CopyWindow(const Tiles& tiles, DataType type, const void* image, int64_t height,
                int64_t width, int64_t channels, const Window& window, float* out);

bool AllFinite(DataType type, const void* values, int64_t count);

inline int64_t SizeOf(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }
inline const char* At(DataType type, const void* base, int64_t element) {
  return static_cast<const char*>(base) + element * SizeOf(type);
}
inline char* At(DataType type, void* base, int64_t element) {
  return static_cast<char*>(base) + element * SizeOf(type);
}

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_LAYOUT_H_
