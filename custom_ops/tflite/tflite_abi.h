// The part of TFLite's C interface that a delegate touches, declared anew: no package ships the
// header. Layouts of TensorFlow 2.21 and LiteRT 2.3 on 64-bit machines; the assertions below say
// what was checked. Pointers that are never followed are void*.
#ifndef CUSTOM_OPS_TFLITE_TFLITE_ABI_H_
#define CUSTOM_OPS_TFLITE_TFLITE_ABI_H_

#include <cstddef>
#include <cstdint>

extern "C" {

enum TfLiteStatus : int32_t { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType : int32_t {
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteInt64 = 4,
  kTfLiteInt8 = 9,
};
constexpr int32_t kTfLiteMmapRo = 1;  // allocation type of what lies in the model's file
constexpr int64_t kTfLiteDelegateFlagsAllowDynamicTensors = 1;
constexpr int32_t kTfLiteBuiltinDelegate = 51;

struct TfLiteIntArray {
  int size;
  int data[];
};

struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
};

struct TfLiteTensor {
  TfLiteType type;
  void* data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  int32_t allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  struct TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  int32_t quantization_type;
  void* quantization_params;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};

// Whether a tensor's numbers are known before Invoke, and all there.
inline bool IsConstant(const TfLiteTensor& tensor, size_t bytes) {
  return tensor.allocation_type == kTfLiteMmapRo && tensor.data != nullptr && tensor.bytes >= bytes;
}

struct TfLiteNode {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  struct TfLiteDelegate* delegate;
  bool might_have_side_effect;
};

struct TfLiteRegistration {
  void* (*init)(struct TfLiteContext*, const char* buffer, size_t length);
  void (*free)(struct TfLiteContext*, void* buffer);
  TfLiteStatus (*prepare)(struct TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(struct TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const struct TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray** plan);
  TfLiteTensor* tensors;
  void* impl_;
  TfLiteStatus (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray* new_size);
  void (*ReportError)(TfLiteContext*, const char* format, ...);
  void* AddTensors;
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext*, int index, TfLiteNode**,
                                         TfLiteRegistration**);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext*, TfLiteRegistration,
                                                        const TfLiteIntArray* nodes,
                                                        struct TfLiteDelegate*);
  int recommended_num_threads;
  // More follows that no delegate here reads; TFLite makes the object.
};

struct TfLiteDelegate {
  void* data_;
  TfLiteStatus (*Prepare)(TfLiteContext*, TfLiteDelegate*);
  void* CopyFromBufferHandle;
  void* CopyToBufferHandle;
  void* FreeBufferHandle;
  int64_t flags;
  void* opaque_delegate_builder;
};

struct TfLiteDelegateParams {
  TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
};

}  // extern "C"

static_assert(sizeof(void*) == 8, "these layouts are those of 64-bit machines");
static_assert(sizeof(TfLiteIntArray) == 4 && offsetof(TfLiteIntArray, data) == 4);
static_assert(sizeof(TfLiteTensor) == 112 && offsetof(TfLiteTensor, dims) == 16);
static_assert(offsetof(TfLiteTensor, bytes) == 40 && offsetof(TfLiteTensor, sparsity) == 96);
static_assert(sizeof(TfLiteNode) == 80 && offsetof(TfLiteNode, user_data) == 32);
static_assert(offsetof(TfLiteNode, custom_initial_data_size) == 56);
static_assert(sizeof(TfLiteRegistration) == 88 && offsetof(TfLiteRegistration, custom_name) == 48);
static_assert(offsetof(TfLiteContext, recommended_num_threads) == 72);
static_assert(sizeof(TfLiteDelegate) == 56 && offsetof(TfLiteDelegate, flags) == 40);
static_assert(sizeof(TfLiteDelegateParams) == 32);

#endif  // CUSTOM_OPS_TFLITE_TFLITE_ABI_H_
