"""The adder response by the compiled operations of `custom_ops`: on the processor, and on GPUs
where they were built with CUDA.

The library is loaded on first use. Where it cannot be, `load` warns once and says why and what to
do; everything else in the package goes on in stock TensorFlow operations (`reference`).
"""

import ctypes
import functools
import pathlib
import re
import warnings
from typing import Any

import tensorflow as tf

from pkkd_tf.ops.filter_gradient import filter_gradient
from pkkd_tf.ops.geometry import Geometry, make_geometry

LIBRARY = pathlib.Path(__file__).parents[2] / "custom_ops" / "tensorflow" / "_pkkd_ops.so"
DTYPES = (tf.float32, tf.bfloat16, tf.float16)
# What to do where they do not serve.
FUSED = "compile the model with `jit_compile=True`, so that XLA fuses the stock operations"


def forward(
    x: tf.Tensor, filters: tf.Tensor, geometry: Geometry, mode: str = "clipped"
) -> tf.Tensor:
    """`Y(m,n,t) = -sum_{i,j,k} |X(m+i, n+j, k) - F(i,j,k,t)|`, shapes as in `adder_conv2d`.

    Sums accumulate in float32 (float16 on a GPU: 16 terms at a time in float16, an error up to 2e-3
    of the response). One result does not depend on the number of threads. The operation
    keeps `mode`, that of `input_gradient`, for its gradient once it is loaded from a SavedModel.

    Raises:
        RuntimeError: the library is not available.
    """
    return _library().pkkd_adder_conv2d(
        x=x, filters=filters, input_gradient=mode, **_attributes(geometry)
    )


def input_gradient(
    x: tf.Tensor, filters: tf.Tensor, gradient: tf.Tensor, geometry: Geometry, mode: str
) -> tf.Tensor:
    """`dX = sum_t HT(F - X) dY`, `HT(z) = clamp(z, -1, 1)` or, with mode `"sign"`, `sign(z)`.

    Raises:
        RuntimeError: the library is not available.
    """
    return _library().pkkd_adder_conv2d_input_gradient(
        x=x, filters=filters, gradient=gradient, input_gradient=mode, **_attributes(geometry)
    )


def is_available() -> bool:
    """Whether the library is there and fits this TensorFlow; loads it, without a warning."""
    return _load()[0] is not None


def why_unavailable() -> str:
    """Why the compiled operations cannot be used; empty where they can."""
    return _load()[1]


def instruction_set() -> str:
    """What the kernels run on this processor: `"baseline"`, `"avx2"` or `"avx512"`.

    The best there is, or the one the environment variable `PKKD_TF_CPU` names.

    Raises:
        RuntimeError: the library is not available.
    """
    _library()
    name = ctypes.CDLL(str(LIBRARY)).pkkd_tf_instruction_set
    name.restype = ctypes.c_char_p
    return name().decode()


def has_gpu_kernels() -> bool:
    """Whether the operations serve GPUs: the library is there and was built with CUDA."""
    return is_available() and bool(ctypes.CDLL(str(LIBRARY)).pkkd_tf_has_gpu_kernels())


def gpu_obstacle() -> str:
    """Why the operations cannot serve the GPUs here; empty where they can.

    They need a driver of the CUDA major version that they were built with, and GPUs of the compute
    capabilities that code was made for (`custom_ops.build_cuda`).
    """
    if not has_gpu_kernels():
        return "a GPU in use, for which the operations were not compiled"
    function = getattr(ctypes.CDLL(str(LIBRARY)), "pkkd_tf_gpu_obstacle", None)
    if function is None:
        return "a GPU in use, but the compiled operations are older than this package"
    function.restype = ctypes.c_char_p
    text = function()
    return f"a GPU in use, but {text.decode()}" if text else ""


@functools.cache
def load() -> Any | None:
    """Loads the compiled operations on the first call.

    A SavedModel that holds them can be loaded, and trained, after this call.

    Returns:
        The module of the raw operations, or None after one warning that says why.
    """
    module, reason = _load()
    if module is None:
        rule, received, values = reason.partition(" Received:")
        warnings.warn(
            f"pkkd_tf computes adder responses in stock TensorFlow operations, which is slow. "
            f"{rule} Or {FUSED}.{received}{values}",
            stacklevel=2,
        )
    return module


@functools.cache
def _load() -> tuple[Any | None, str]:
    way_out = "Build it with `python -m custom_ops.build`."
    if not LIBRARY.exists():
        return None, f"The compiled library does not exist. {way_out} Received: {LIBRARY}"
    found = re.search(rb"pkkd_tf built for TensorFlow ([^;]+);", LIBRARY.read_bytes())
    built_for = found.group(1).decode() if found else "unknown"
    versions = f"Received: built for TensorFlow {built_for}, running {tf.__version__}"
    if built_for.split(".")[:2] != tf.__version__.split(".")[:2]:
        return None, f"The compiled library is for another TensorFlow. {way_out} {versions}"
    try:
        return tf.load_op_library(str(LIBRARY)), ""
    except tf.errors.OpError as error:
        return None, f"The compiled library does not load. {way_out} {versions}; {error.message}"


def _library() -> Any:
    module, reason = _load()
    if module is None:
        raise RuntimeError(reason)
    return module


def _attributes(geometry: Geometry) -> dict[str, Any]:
    explicit = not isinstance(geometry.padding, str)
    return {
        "strides": geometry.strides,
        "padding": "EXPLICIT" if explicit else geometry.padding,
        "explicit_paddings": [p for pair in geometry.padding for p in pair] if explicit else [],
        "dilations": geometry.dilations,
        "groups": geometry.groups,
    }


@tf.RegisterGradient("PkkdAdderConv2D")
def _gradients(op: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    x, filters = op.inputs
    padding = op.get_attr("padding").decode()
    if padding == "EXPLICIT":
        top, bottom, left, right = op.get_attr("explicit_paddings")
        padding = ((top, bottom), (left, right))
    geometry = make_geometry(
        tuple(op.get_attr("strides")),
        padding,
        tuple(op.get_attr("dilations")),
        op.get_attr("groups"),
    )
    mode = op.get_attr("input_gradient").decode()
    with tf.control_dependencies([gradient]):
        dx = input_gradient(x, filters, gradient, geometry, mode)
        return dx, filter_gradient(x, filters, gradient, geometry)


@tf.RegisterGradient("PkkdAdderConv2DInputGradient")
def _no_second_derivative(op: tf.Operation, gradient: tf.Tensor) -> Any:
    raise NotImplementedError(
        "The compiled input gradient has no derivative: differentiate twice inside of "
        '`pkkd_tf.ops.use_path("reference")`. '
        f"Received: a derivative of {op.type}"
    )
