"""The delegate as this checkout builds it, and interpreters that load it."""

import functools
import shutil
import warnings

import pytest
from tensorflow.lite.python import interpreter as tensorflow_lite

from custom_ops import build_delegate, compiler

INTERPRETERS = {"tensorflow": tensorflow_lite}
try:
    from ai_edge_litert import interpreter as litert

    INTERPRETERS["litert"] = litert
except ImportError:
    litert = tensorflow_lite  # the same functions, a heavier import


def has_compiler():
    return shutil.which(compiler.command()[0]) is not None


@functools.cache
def path():
    """The library, built where it is missing or older than a source, if there is a compiler."""
    sources = [
        *build_delegate.SHELL.iterdir(),
        *compiler.KERNELS.iterdir(),
        compiler.ROOT / "compiler.py",
        compiler.ROOT / "build_delegate.py",
    ]
    library = build_delegate.LIBRARY
    newest = max(source.stat().st_mtime for source in sources if source != library)
    if not library.exists() or library.stat().st_mtime < newest:
        if not has_compiler():
            pytest.skip("the delegate is not built, and there is no C++ compiler")
        build_delegate.build_delegate(quiet=True)
    return library


def load(options=None, kind="tensorflow"):
    return INTERPRETERS[kind].load_delegate(str(path()), options)


def interpreter(data, kind="tensorflow", options=None, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        delegates = [load(options, kind)]
        made = INTERPRETERS[kind].Interpreter(
            model_content=data, experimental_delegates=delegates, **arguments
        )
    made.allocate_tensors()
    return made


def run(made, *inputs):
    """Outputs for a batch; the inputs in the order of the model's."""
    details = made.get_input_details()
    for detail, value in zip(details, inputs, strict=True):
        made.resize_tensor_input(detail["index"], value.shape)
    made.allocate_tensors()
    for detail, value in zip(details, inputs, strict=True):
        made.set_tensor(detail["index"], value)
    made.invoke()
    return made.get_tensor(made.get_output_details()[0]["index"])
