"""Which GPUs and drivers run the compiled GPU kernels: kernels/cuda/obstacle.cu.

Compiled for the processor, or of the library that PKKD_TF_CUDA_LIBRARY names, as in test_cuda.py.
"""

import ctypes
import os
import pathlib

import pytest

from custom_ops import build_cuda, compiler

LIBRARY = os.environ.get("PKKD_TF_CUDA_LIBRARY")
DEVICE = "a device has compute capability"
WORDS = [
    ((0, 13000, 900, [900]), "there is no CUDA driver"),
    ((12080, 13010, 900, [900]), "the driver serves CUDA 12.8 at most, and the kernels need 13.0"),
    (
        (13000, 13000, 610, [750, 900]),
        f"{DEVICE} 6.1, and the kernels were compiled for 7.5, 9.0 and later",
    ),
    (
        (13000, 13010, 1200, [900]),
        f"{DEVICE} 12.0, for which a driver of CUDA 13.1 must compile the kernels, and this one "
        "serves 13.0",
    ),
    ((13000, 13010, 900, [900]), ""),
]


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    path = pathlib.Path(LIBRARY or tmp_path_factory.mktemp("cuda") / "obstacle.so").resolve()
    if not LIBRARY:
        sources = [(build_cuda.KERNELS / "obstacle.cu", build_cuda.EMULATED)]
        compiler.compile_and_link(sources, [], ["-shared"], path, quiet=True)
    return ctypes.CDLL(str(path))


def obstacle(functions, driver, runtime, capability, images):
    text, count = ctypes.create_string_buffer(256), len(images)
    array = (ctypes.c_int * count)(*images)
    functions.pkkd_cuda_obstacle_of(driver, runtime, capability, array, count, text, len(text))
    return text.value.decode()


@pytest.mark.parametrize("numbers, expected", WORDS)
def test_words(functions, numbers, expected):
    assert obstacle(functions, *numbers) == expected


IMAGES = ([750, 800, 860, 890, 900], [860], [750, 900], [890, 1000, 1200], [1200])
VERSIONS = ((13000, 13000), (14000, 13010), (13000, 13010), (12090, 13000), (0, 13000))


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("driver, runtime", VERSIONS)
def test_every_capability(functions, images, driver, runtime):
    """An image serves its major version from its minor version on, PTX what is newer than all."""
    runs = set()
    if driver // 1000 >= runtime // 1000:
        runs |= {c for image in images for c in range(image, image // 100 * 100 + 100, 10)}
    if driver >= runtime:
        runs |= set(range(max(images), 1300, 10))
    numbers = range(300, 1300, 10)
    assert {c for c in numbers if not obstacle(functions, driver, runtime, c, images)} == runs


def test_none_where_these_tests_run(functions):
    functions.pkkd_cuda_obstacle.restype = ctypes.c_char_p
    assert functions.pkkd_cuda_obstacle() is None
