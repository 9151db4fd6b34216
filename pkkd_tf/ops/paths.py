"""Which code computes the adder response: stock TensorFlow operations or the compiled ones.

    "reference"   stock TensorFlow operations: every device, XLA, SavedModel without this package
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

from pkkd_tf.ops import compiled, reference

PATHS = ("auto", "compiled", "reference")
VARIABLE = "PKKD_TF_OPS"
_chosen: list[str] = []


def get_path() -> str:
    """The path in force: `"auto"`, `"compiled"` or `"reference"`.

    Raises:
        ValueError: the environment variable `PKKD_TF_OPS` holds something else.
    """
    return _chosen[-1] if _chosen else _checked(os.environ.get(VARIABLE, "auto"), VARIABLE)


def set_path(path: str) -> None:
    """Sets the path for everything that is traced from now on.

    Args:
        path: `"auto"`, `"compiled"` or `"reference"`.

    Raises:
        ValueError: another value.
    """
    _chosen[:] = [_checked(path, "path")]


@contextlib.contextmanager
def use_path(path: str) -> Iterator[None]:
    """Sets the path inside a `with` block.

    Args:
        path: `"auto"`, `"compiled"` or `"reference"`.

    Raises:
        ValueError: another value.

    Example:
        >>> with pkkd_tf.ops.use_path("reference"):
        ...     model.export("saved_model")
    """
    _chosen.append(_checked(path, "path"))
    try:
        yield
    finally:
        _chosen.pop()


def path_for(dtype: tf.DType) -> Any:
    """The module whose `forward` and `input_gradient` serve tensors of `dtype` here and now.

    Raises:
        RuntimeError: the path is `"compiled"` and the compiled operations are not available, or do
            not serve this type or place (XLA, a GPU).
    """
    path = get_path()
    if path == "reference":
        return reference
    obstacle = _obstacle(dtype)
    if path == "compiled" and (obstacle or not compiled.is_available()):
        raise RuntimeError(
            "The compiled adder operations must be available where they are asked for. "
            f"Received: path='compiled', {obstacle or compiled.why_unavailable()}"
        )
    if obstacle and dtype in compiled.DTYPES:
        _warn_once(obstacle)
    return reference if obstacle or compiled.load() is None else compiled


@functools.cache
def _warn_once(obstacle: str) -> None:
    warnings.warn(
        f"pkkd_tf computes adder responses in stock TensorFlow operations here, which is slow: "
        f"{obstacle}. Under XLA compile the model with `jit_compile=False`; for GPUs build with "
        "`python -m custom_ops.build` where there is an nvcc of a CUDA that the driver serves.",
        stacklevel=2,
    )


def why_reference(dtype: tf.DType) -> str:
    """Why stock TensorFlow operations serve tensors of `dtype` here and now; empty if they do not.

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
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return "inside of a function that XLA compiles"
    if tf.config.list_logical_devices("GPU"):
        return compiled.gpu_obstacle()
    return ""


def _checked(path: str, name: str) -> str:
    if path not in PATHS:
        raise ValueError(f"`{name}` must be one of {PATHS}. Received: {name}={path!r}")
    return path
