"""The C functions of `custom_ops.build_cuda` for NumPy arrays, without a framework."""

import ctypes
import pathlib
from typing import Any

import numpy as np

TYPES = {"float32": 0, "bfloat16": 1, "float16": 2}
SLOPES = {"clipped": 0, "sign": 1}


class Gpu:
    """The library on the first GPU; errors, and a GPU it cannot use, are RuntimeErrors."""

    def __init__(self, path: pathlib.Path):
        self.functions = ctypes.CDLL(str(path))
        self.functions.pkkd_cuda_error_text.restype = ctypes.c_char_p
        self.functions.pkkd_cuda_obstacle.restype = ctypes.c_char_p
        self._events: list[ctypes.c_void_p] = []
        obstacle = self.functions.pkkd_cuda_obstacle()
        if obstacle:
            raise RuntimeError(f"The GPU must run the kernels. Received: {obstacle.decode()}")

    def check(self, error: int) -> None:
        """Raises RuntimeError unless `error` is 0."""
        if error:
            text = self.functions.pkkd_cuda_error_text(error).decode()
            raise RuntimeError(
                f"The GPU must do what is asked. Received: CUDA error {error}, {text}"
            )

    def name(self) -> str:
        """Of the device."""
        text = ctypes.create_string_buffer(256)
        self.check(self.functions.pkkd_cuda_device_name(text, len(text)))
        return text.value.decode()

    def tiles(self) -> int:
        """How many tiles a launch can choose from."""
        return self.functions.pkkd_cuda_tiles()

    def allocate(self, size: int) -> ctypes.c_void_p:
        """Device memory of `size` bytes."""
        memory = ctypes.c_void_p()
        self.check(self.functions.pkkd_cuda_allocate(ctypes.byref(memory), ctypes.c_int64(size)))
        return memory

    def free(self, memory: ctypes.c_void_p) -> None:
        """Gives it back."""
        self.check(self.functions.pkkd_cuda_free(memory))

    def to_device(self, array: np.ndarray) -> ctypes.c_void_p:
        """A copy in device memory."""
        memory = self.allocate(array.nbytes)
        size = ctypes.c_int64(array.nbytes)
        self.check(self.functions.pkkd_cuda_to_device(memory, _pointer(array), size))
        return memory

    def read(self, memory: ctypes.c_void_p, array: np.ndarray) -> np.ndarray:
        """Fills `array` from device memory, after the work queued so far."""
        size = ctypes.c_int64(array.nbytes)
        self.check(self.functions.pkkd_cuda_to_host(_pointer(array), memory, size))
        return array

    def event_pairs(self, count: int) -> list[tuple[ctypes.c_void_p, ctypes.c_void_p]]:
        """CUDA events, the same ones each time."""
        while len(self._events) < 2 * count:
            event = ctypes.c_void_p()
            self.check(self.functions.pkkd_cuda_event_create(ctypes.byref(event)))
            self._events.append(event)
        return list(zip(self._events[:count], self._events[count : 2 * count]))

    def record(self, event: ctypes.c_void_p) -> None:
        """Queues it."""
        self.check(self.functions.pkkd_cuda_event_record(event))

    def seconds_between(self, first: ctypes.c_void_p, second: ctypes.c_void_p) -> float:
        """Waits for the second one."""
        time = ctypes.c_float()
        self.check(self.functions.pkkd_cuda_event_milliseconds(first, second, ctypes.byref(time)))
        return time.value / 1e3


class Call:
    """One pass on random numbers, or on given ones, as often as wanted.

    Args:
        gpu: the library.
        name: `"forward"` or `"input gradient"`.
        sizes: the fields of AdderShape.
        dtype: a name in `TYPES`.
        rng: makes the numbers where `arrays` is None.
        arrays: x, filters and gradient.
        slope: of the input gradient, a name in `SLOPES`.
    """

    def __init__(
        self,
        gpu: Gpu,
        name: str,
        sizes: Any,
        dtype: str,
        rng: np.random.Generator | None = None,
        arrays: tuple[np.ndarray, ...] | None = None,
        slope: str = "clipped",
    ):
        self.gpu, self.name, self.dtype, self.slope = gpu, name, dtype, slope
        self.sizes = np.array(sizes, np.int64)
        if arrays is None:
            arrays = tuple(rng.normal(size=s).astype(dtype) for s in shapes(sizes))
        self.arrays = arrays
        self.memory = [gpu.to_device(array) for array in arrays]
        result = arrays[2 if name == "forward" else 0]
        self.empty = np.empty_like(result)
        self.output = gpu.allocate(result.nbytes)

    def launch(self, tile: int = -1) -> None:
        """Queues it."""
        functions, shape, kind = self.gpu.functions, _pointer(self.sizes), TYPES[self.dtype]
        x, filters, gradient = self.memory
        if self.name == "forward":
            error = functions.pkkd_cuda_adder_forward(
                shape, kind, x, filters, self.output, None, tile
            )
        else:
            slope = SLOPES[self.slope]
            error = functions.pkkd_cuda_adder_input_gradient(
                shape, kind, slope, x, filters, gradient, self.output, None, tile
            )
        self.gpu.check(error)

    def result(self, tile: int = -1) -> np.ndarray:
        """Runs it on an output full of NaN and returns what it wrote."""
        size = ctypes.c_int64(self.empty.nbytes)
        self.gpu.check(self.gpu.functions.pkkd_cuda_fill(self.output, 0xFF, size))
        self.launch(tile)
        return self.gpu.read(self.output, np.empty_like(self.empty))

    def free(self) -> None:
        """Gives the device memory back."""
        for memory in (*self.memory, self.output):
            self.gpu.free(memory)


def shapes(sizes: Any) -> tuple[tuple[int, ...], ...]:
    """Of x, the filters and the response, from the fields of AdderShape."""
    batch, height, width, channels, kh, kw, outputs, groups, *_, rows, columns = map(int, sizes)
    return (
        (batch, height, width, channels),
        (kh, kw, channels // groups, outputs),
        (batch, rows, columns, outputs),
    )


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
