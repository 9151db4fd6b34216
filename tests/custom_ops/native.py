"""The kernels' C functions for NumPy arrays."""

import ctypes
import pathlib

import ml_dtypes
import numpy as np

from tests import numpy_adder

TYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
SLOPES = ("clipped", "sign")


def instruction_sets():
    """What this processor runs, by its own account."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    known = {"avx2": ("avx2", "fma", "f16c")}
    known["avx512"] = (*known["avx2"], "avx512f", "avx512dq", "avx512bw", "avx512vl")
    return ["baseline"] + [name for name, needs in known.items() if set(needs) <= set(flags)]


def sizes(x, f, strides, padding, dilations, groups):
    """The fields of AdderShape."""
    (top, bottom), (left, right) = numpy_adder.pads(
        padding, x.shape[1:3], f.shape[:2], strides, dilations
    )
    height = x.shape[1] + top + bottom - dilations[0] * (f.shape[0] - 1) - 1
    width = x.shape[2] + left + right - dilations[1] * (f.shape[1] - 1) - 1
    output = (height // strides[0] + 1, width // strides[1] + 1)
    fields = [*x.shape, *f.shape[:2], f.shape[3], groups, *strides, *dilations, top, left, *output]
    return np.array(fields, np.int64)


def _pointer(array):
    assert array.flags["C_CONTIGUOUS"]
    return array.ctypes.data_as(ctypes.c_void_p)


class Kernels:
    def __init__(self, path):
        self.functions = ctypes.CDLL(str(path))
        self.functions.pkkd_instruction_set.restype = ctypes.c_char_p
        self.functions.pkkd_int8_pack.restype = ctypes.c_void_p

    def instruction_set(self):
        return self.functions.pkkd_instruction_set().decode()

    def forward(self, x, f, strides, padding, dilations, groups, threads=1):
        shape = sizes(x, f, strides, padding, dilations, groups)
        y = np.full((len(x), shape[14], shape[15], f.shape[3]), 99, x.dtype)
        self.functions.pkkd_adder_forward(
            _pointer(shape), self._type(x), _pointer(x), _pointer(f), _pointer(y), threads
        )
        return y

    def input_gradient(
        self, x, f, dy, strides, padding, dilations, groups, mode, threads=1, reference=False
    ):
        shape = sizes(x, f, strides, padding, dilations, groups)
        dx = np.full(x.shape, 99, x.dtype)
        arguments = [_pointer(shape), self._type(x), SLOPES.index(mode)]
        arguments += [_pointer(array) for array in (x, f, dy, dx)]
        if reference:
            self.functions.pkkd_adder_input_gradient_reference(*arguments)
        else:
            self.functions.pkkd_adder_input_gradient(*arguments, threads)
        return dx

    def int8_forward(self, x, f, multiplier, bias, threads=1, before_forward=None, **options):
        """The other arguments are those of `numpy_adder_int8.forward`."""
        geometry = {"strides": (1, 1), "padding": "VALID", "dilations": (1, 1), "groups": 1}
        geometry = {name: options.pop(name, value) for name, value in geometry.items()}
        shape = sizes(x, f, *geometry.values())
        y = np.full((len(x), shape[14], shape[15], f.shape[3]), 99, np.int8)
        packed = ctypes.c_void_p(self.functions.pkkd_int8_pack(_pointer(shape), _pointer(f)))
        if before_forward:
            before_forward()
        assert multiplier.dtype == np.int32 and bias.dtype == np.int64
        zero, residual = options.pop("zero", 0), options.pop("residual", None)
        names = {"residual_multiplier": 0, "shift": 1, "low": -128, "high": 127}
        epilogue = np.array([options.pop(name, value) for name, value in names.items()], np.int32)
        assert not options
        other = None if residual is None else _pointer(residual)
        constants = [_pointer(multiplier), _pointer(bias), other, _pointer(epilogue)]
        self.functions.pkkd_int8_forward(
            _pointer(shape), _pointer(x), packed, zero, *constants, _pointer(y), threads
        )
        self.functions.pkkd_int8_free(packed)
        return y

    @staticmethod
    def _type(x):
        return [np.dtype(t) for t in TYPES.values()].index(x.dtype)
