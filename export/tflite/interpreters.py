"""TFLite's interpreter, for a batch of any size: LiteRT's where it is installed, else TF's."""

import contextlib
import ctypes
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from export.program import ExportError


def interpreter_module() -> Any:
    """The module that has `Interpreter` and `load_delegate`."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        from tensorflow.lite.python import interpreter
    return interpreter


def load_delegate(path: str | os.PathLike, options: dict[str, str] | None = None) -> Any:
    """Loads an external delegate.

    Args:
        path: the library.
        options: what it is given, names and values.

    Returns:
        A delegate for the `experimental_delegates` of an interpreter.

    Raises:
        ExportError: it is no library, or refuses.

    Example:
        >>> load_delegate("custom_ops/tflite/libadder_delegate.so")
    """
    path = os.path.abspath(path)
    try:
        ctypes.CDLL(path)  # says why it cannot be loaded; the loader of TFLite does not
        return interpreter_module().load_delegate(path, options)
    except (ValueError, OSError) as error:
        raise ExportError(
            "An external delegate must be a library that TFLite can load. "
            f"Received: delegate='{path}', options={options}, {str(error).strip()}"
        ) from error


class Network:
    """A `.tflite` model with one input, for batches of any size.

    Args:
        data: bytes of a `.tflite` file.
        delegate: library of an external delegate, or None.
        num_threads: threads the interpreter may use.
        options: of the delegate.

    Attributes:
        input: what the interpreter says of the input.
        outputs: what it says of each output, by its name in the file's signature.

    Raises:
        ExportError: the model or the delegate is refused.

    Example:
        >>> Network(pathlib.Path("r20.tflite").read_bytes())(images).shape
        (4, 10)
    """

    def __init__(
        self,
        data: bytes,
        delegate: str | os.PathLike | None = None,
        num_threads: int = 1,
        options: dict[str, str] | None = None,
    ):
        self._delegate = delegate
        delegates = [] if delegate is None else [load_delegate(delegate, options)]
        with self._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's says that LiteRT is to be preferred
            self.interpreter = interpreter_module().Interpreter(
                model_content=data, num_threads=num_threads, experimental_delegates=delegates
            )
        self.input = self.interpreter.get_input_details()[0]
        self.outputs = _outputs(self.interpreter)

    def set_input(self, batch: np.ndarray) -> None:
        """Gives the interpreter its input, in a shape that may differ from the last one.

        Real numbers for an int8 network are quantized as its input says.

        Raises:
            ExportError: the images are not of the size that the file is for.
        """
        self._check_size(batch)
        if self._converts(batch):
            scale, zero = self.input["quantization"]
            batch = np.clip(np.rint(batch / scale) + zero, -128, 127).astype(np.int8)
        with self._explained():
            self.interpreter.resize_tensor_input(self.input["index"], batch.shape)
            self.interpreter.allocate_tensors()
            self.interpreter.set_tensor(self.input["index"], batch)

    def invoke(self) -> None:
        """Computes the outputs from the input."""
        self.interpreter.invoke()

    def __call__(self, batch: np.ndarray) -> Any:
        """The output for `batch`, several by their names: real for real numbers, int8 for int8."""
        found = self.named(batch)
        return found if len(found) > 1 else next(iter(found.values()))

    def named(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for `batch` by their names."""
        self.set_input(batch)
        self.invoke()
        converts = self._converts(batch)
        return {name: self._numbers(output, converts) for name, output in self.outputs.items()}

    def _numbers(self, output: dict[str, Any], converts: bool) -> np.ndarray:
        values = self.interpreter.get_tensor(output["index"])
        if not converts:
            return values
        scale, zero = output["quantization"]
        return ((values.astype(np.int32) - zero) * scale).astype(np.float32)

    def _check_size(self, batch: np.ndarray) -> None:
        """The interpreter itself would compute something else, not always with an error."""
        known = self.input["shape_signature"]
        wrong = len(known) != batch.ndim or any(
            size not in (-1, given) for size, given in zip(known[1:], batch.shape[1:])
        )
        if wrong:
            raise ExportError(
                "Images must have the height, width and channels that the file was exported for. "
                f"Received: images={batch.shape}, file={tuple(map(int, known))}, -1 being any"
            )

    def _converts(self, batch: np.ndarray) -> bool:
        return self.input["dtype"] == np.int8 and batch.dtype != np.int8

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError) as error:
            raise ExportError(
                "The model must be one that the interpreter takes; AdderConv2D needs its delegate. "
                f"Received: delegate={self._delegate}, {str(error).strip()}"
            ) from error


def _outputs(interpreter: Any) -> dict[str, Any]:
    """Details of the outputs by their names in the signature; without one, the tensors'."""
    for signature in interpreter.get_signature_list():
        return interpreter.get_signature_runner(signature).get_output_details()
    return {output["name"]: output for output in interpreter.get_output_details()}
