#ifdef PKKD_X86
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>

#include "custom_ops/kernels/cpu/int8_tiles.h"
#include "custom_ops/kernels/cpu/tiles.h"

namespace pkkd {
namespace {

#ifdef PKKD_X86
// Clang 16 and older do not know its name in __builtin_cpu_supports.
bool SupportsF16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

// The tables this processor can run, best first, with a null pointer at the end.
const Tiles* const* RunnableTiles() {
  static const Tiles* tables[4] = {};
  static const bool filled = [] {
    int count = 0;
#ifdef PKKD_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      SupportsF16c();
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
      tables[count++] = &kAvx512Tiles;
    }
    if (avx2) tables[count++] = &kAvx2Tiles;
#endif
    tables[count++] = &kBaselineTiles;
    return true;
  }();
  (void)filled;
  return tables;
}

const Tiles* OverrideTiles() {
  const char* name = std::getenv("PKKD_TF_CPU");
  if (name == nullptr) return RunnableTiles()[0];
  for (const Tiles* const* table = RunnableTiles(); *table != nullptr; ++table) {
    if (std::strcmp((*table)->name, name) == 0) return *table;
  }
  return nullptr;
}

}  // namespace

const Tiles& SelectTiles() {
  const Tiles* table = OverrideTiles();
  return table == nullptr ? *RunnableTiles()[0] : *table;
}

const Int8Tiles& SelectInt8Tiles() {
#ifdef PKKD_X86
  const Tiles* table = &SelectTiles();
  if (table == &kAvx512Tiles) return kAvx512Int8Tiles;
  if (table == &kAvx2Tiles) return kAvx2Int8Tiles;
#endif
  return kBaselineInt8Tiles;
}

const char* InstructionSet() { return SelectTiles().name; }

bool InstructionSetOverrideIsValid() { return OverrideTiles() != nullptr; }

}  // namespace pkkd
