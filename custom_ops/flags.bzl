"""The compiler flags of custom_ops/build.py; tests/custom_ops/test_bazel.py compares the two."""

COPTS = [
    "-std=c++17",
    "-fPIC",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-O3",
    "-DNDEBUG",
]

INSTRUCTION_SETS = {
    "tiles_avx2.cc": ["-mavx2", "-mfma", "-mf16c"],
    "tiles_avx512.cc": [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx512bw",
        "-mavx2",
        "-mfma",
        "-mf16c",
    ],
}

TEST_SOURCES = [
    "c_api.cc",
    "grid_test.cc",
]
