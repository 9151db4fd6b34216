// Which TensorFlow this library was compiled for: pkkd_tf/ops/compiled.py reads the text from the
// file before it loads it, because a library for another version fails with an undefined symbol.
// The build defines PKKD_TENSORFLOW_VERSION as a string, "2.21.0"; the headers hold no version.
#include "custom_ops/kernels/cpu/adder.h"
#if GOOGLE_CUDA
#include "custom_ops/kernels/cuda/adder_cuda.h"
#endif

extern "C" {

extern const char pkkd_tf_built_for[];
const char pkkd_tf_built_for[] = "pkkd_tf built for TensorFlow " PKKD_TENSORFLOW_VERSION ";";

// Which instruction set the kernels use; see adder.h.
const char* pkkd_tf_instruction_set() { return pkkd::InstructionSet(); }

// Whether the operations exist on GPUs too.
int pkkd_tf_has_gpu_kernels() {
#if GOOGLE_CUDA
  return 1;
#else
  return 0;
#endif
}

// Why they cannot run on the GPUs here; null where they can.
const char* pkkd_tf_gpu_obstacle() {
#if GOOGLE_CUDA
  return pkkd_cuda_obstacle();
#else
  return "they were not compiled for GPUs";
#endif
}

}  // extern "C"
