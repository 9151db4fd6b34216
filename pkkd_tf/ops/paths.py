"""Which code computes the adder response: stock TensorFlow operations or the compiled ones.

    "reference"   stock TensorFlow operations: every device, XLA, SavedModel without this package;
                  inside of a function that XLA compiles in a form that it fuses
    "compiled"    the operations of `custom_ops`, on the processor, and on GPUs if built with CUDA;
                  an error where they are missing
    "auto"        compiled where that is possible, else reference after one warning (the default)

The environment variable `PKKD_TF_OPS` sets the start value. A `tf.function`, and so a Keras model
that has been called, keeps what was in force when it was traced.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from pkkd_tf.ops import compiled, fusible, reference

PATHS = ("auto", "compiled", "reference")
VARIABLE = "PKKD_TF_OPS"
_chosen: list[str] = []  # by `set_path`, where it was called
_used: list[list[str]] = []  # of the `use_path` blocks that are open, in any thread


def get_path() -> str:
    """The path in force: `"auto"`, `"compiled"` or `"reference"`.

    Returns:
        String.

    Raises:
        ValueError: the environment variable `PKKD_TF_OPS` holds something else.

    Example:
        >>> pkkd_tf.ops.get_path()
        'auto'
    """
    chosen = [*_chosen, *(path for (path,) in _used)]
    return chosen[-1] if chosen else _checked(os.environ.get(VARIABLE, "auto"), VARIABLE)


def set_path(path: str) -> None:
    """Sets the path for everything that is traced from now on, in a `use_path` block too.

    Args:
        path: `"auto"`, `"compiled"` or `"reference"`.

    Raises:
        ValueError: another value.

    Example:
        >>> pkkd_tf.ops.set_path("reference")
    """
    _chosen[:] = [_checked(path, "path")]
    for innermost in _used[-1:]:
        innermost[0] = path


@contextlib.contextmanager
def use_path(path: str) -> Iterator[None]:
    """Sets the path inside a `with` block, for all threads: replicas have some of their own.

    Args:
        path: `"auto"`, `"compiled"` or `"reference"`.

    Raises:
        ValueError: another value.

    Example:
        >>> model = pkkd_tf.models.build("digits_resnet")
        >>> with pkkd_tf.ops.use_path("reference"):
        ...     model.export("saved_model")
    """
    own = [_checked(path, "path")]
    _used.append(own)
    try:
        yield
    finally:
        _used[:] = [other for other in _used if other is not own]


def path_for(dtype: tf.DType) -> Any:
    """The module whose `forward` and `input_gradient` serve tensors of `dtype` here and now.

    Raises:
        RuntimeError: the path is `"compiled"` and the compiled operations are not available, or do
            not serve this type or place (XLA, a GPU).
    """
    path = get_path()
    if path == "reference":
        return _stock()
    obstacle = _obstacle(dtype)
    if path == "compiled" and (obstacle or not compiled.is_available()):
        raise RuntimeError(
            "The compiled adder operations must be available where they are asked for. "
            f"Received: path='compiled', {obstacle or compiled.why_unavailable()}"
        )
    if obstacle and dtype in compiled.DTYPES and not (under_xla() and _why_not_without_xla()):
        _warn_once(obstacle)
    return _stock() if obstacle or compiled.load() is None else compiled


def _stock() -> Any:
    return fusible if under_xla() else reference


def under_xla() -> bool:
    """Whether what is traced here is inside of a function that XLA compiles."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def _warn_once(obstacle: str) -> None:
    where = "stock TensorFlow operations here, which is slow"
    advice = (
        "Build with `python -m custom_ops.build` where there is an nvcc of a CUDA that the "
        f"driver serves, or {compiled.FUSED}."
    )
    if under_xla():
        where = "stock TensorFlow operations here, fused by XLA"
        advice = "For the compiled operations compile the model with `jit_compile=False`."
    message = f"pkkd_tf computes adder responses in {where}: {obstacle}. {advice}"
    warnings.warn(message, stacklevel=2)


def why_reference(dtype: tf.DType) -> str:
    """Why stock TensorFlow operations serve tensors of `dtype` here and now; empty if they do not.

    Args:
        dtype: `tf.DType` of the images.

    Returns:
        String.

    Example:
        >>> pkkd_tf.ops.why_reference(tf.float64)
        'dtype=float64'
    """
    if get_path() == "reference":
        return "the path is set to 'reference'"
    return _obstacle(dtype) or compiled.why_unavailable()


def _obstacle(dtype: tf.DType) -> str:
    """Why compiled code cannot serve here even where it is installed; empty if it can."""
    if dtype not in compiled.DTYPES:
        return f"dtype={dtype.name}"
    return "inside of a function that XLA compiles" if under_xla() else _device_obstacle()


def _device_obstacle() -> str:
    return compiled.gpu_obstacle() if tf.config.list_logical_devices("GPU") else ""


def _why_not_without_xla() -> str:
    """Why compiled code could not serve here without XLA either; empty if it could."""
    return compiled.why_unavailable() or _device_obstacle()


def _checked(path: str, name: str) -> str:
    if path not in PATHS:
        raise ValueError(f"`{name}` must be one of {PATHS}. Received: {name}={path!r}")
    return path
