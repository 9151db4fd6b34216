// The 8-bit part of grid_test.cc.
#ifndef CUSTOM_OPS_KERNELS_CPU_INT8_GRID_TEST_H_
#define CUSTOM_OPS_KERNELS_CPU_INT8_GRID_TEST_H_

namespace pkkd {

// Exits with 1 at the first difference, on the instruction set of that name if there is one here.
void CheckInt8InstructionSet(const char* name);

}  // namespace pkkd

#endif  // CUSTOM_OPS_KERNELS_CPU_INT8_GRID_TEST_H_
