"""The compiler flags of custom_ops/compiler.py; tests/custom_ops/test_bazel.py compares the two."""

COPTS = [
    "-std=c++17",
    "-fPIC",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-O3",
    "-DNDEBUG",
]

AVX2 = [
    "-mavx2",
    "-mfma",
    "-mf16c",
]

AVX512 = [
    "-mavx512f",
    "-mavx512dq",
    "-mavx512vl",
    "-mavx512bw",
] + AVX2

INSTRUCTION_SETS = {
    "tiles_avx2.cc": AVX2,
    "tiles_avx512.cc": AVX512,
    "int8_tiles_avx2.cc": AVX2,
    "int8_tiles_avx512.cc": AVX512,
}

TEST_SOURCES = [
    "c_api.cc",
    "grid_test.cc",
    "grid_test.h",
    "int8_grid_test.cc",
    "int8_grid_test.h",
]
