"""What happens where the compiled library is missing, foreign or broken."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from custom_ops import compiler
from pkkd_tf.ops import adder_conv2d, compiled, paths, use_path
from pkkd_tf.ops.geometry import make_geometry
from tests import numpy_adder


@pytest.fixture
def library(operations, monkeypatch, tmp_path):
    """The path of a library that is not there yet; the real one is back afterwards."""
    path = tmp_path / "ops.so"
    monkeypatch.setattr(compiled, "LIBRARY", path)
    compiled.load.cache_clear()
    compiled._load.cache_clear()
    yield path
    compiled.load.cache_clear()
    compiled._load.cache_clear()


def warning_of_load():
    """Loads twice and returns the text of the one warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert compiled.load() is None
        assert compiled.load() is None
    assert len(caught) == 1
    return str(caught[0].message)


def test_missing(library):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not compiled.is_available()
        assert "does not exist" in compiled.why_unavailable()
    text = warning_of_load()
    assert "in stock TensorFlow operations" in text
    assert "Build it with `python -m custom_ops.build`." in text
    assert f"Received: {library}" in text


def test_another_version(library):
    library.write_bytes(b"...pkkd_tf built for TensorFlow 2.3.4;...")
    assert f"Received: built for TensorFlow 2.3.4, running {tf.__version__}" in warning_of_load()


def test_a_file_that_is_no_library(library):
    library.write_bytes(b"text")
    assert "Received: built for TensorFlow unknown" in warning_of_load()


def compile_broken(library, tmp_path):
    """A library that says it is for this TensorFlow and calls what this TensorFlow lacks."""
    source = tmp_path / "broken.cc"
    source.write_text(
        'extern "C" const char text[];\n'
        f'const char text[] = "pkkd_tf built for TensorFlow {tf.__version__};";\n'
        "void missing_function();\n"
        "__attribute__((constructor)) void Call() { missing_function(); }\n"
    )
    compiler.run([*compiler.command(), "-shared", "-fPIC", str(source), "-o", str(library)])


def test_undefined_symbol(library, tmp_path):
    compile_broken(library, tmp_path)
    text = warning_of_load()
    assert "The compiled library does not load." in text
    assert "missing_function" in text


def test_stock_operations_serve_instead_after_one_warning(library, tmp_path):
    compile_broken(library, tmp_path)
    x, f = tf.random.normal([2, 7, 7, 3]), tf.random.normal([3, 3, 3, 4])
    with pytest.warns(UserWarning, match="python -m custom_ops.build") as caught, use_path("auto"):
        for _ in range(3):
            y = adder_conv2d(x, f)
    assert len(caught) == 1
    assert "so that XLA fuses the stock operations. Received: " in str(caught[0].message)
    np.testing.assert_allclose(y, numpy_adder.forward(x.numpy(), f.numpy()), rtol=1e-5)


def test_use_without_the_library_is_an_error(library):
    with pytest.raises(RuntimeError, match="python -m custom_ops.build"):
        compiled.forward(
            tf.zeros([1, 1, 1, 1]), tf.zeros([1, 1, 1, 1]), make_geometry(1, "VALID", 1, 1)
        )


def test_one_warning_where_xla_leaves_compiled_operations_out(operations):
    x, f = tf.random.normal([2, 7, 7, 3]), tf.random.normal([3, 3, 3, 4])
    paths._warn_once.cache_clear()
    with pytest.warns(UserWarning) as caught, use_path("auto"):
        for _ in range(2):
            y = tf.function(lambda x, f: adder_conv2d(x, f), jit_compile=True)(x, f)
    assert len(caught) == 1
    assert "fused by XLA: inside of a function that XLA compiles. For" in str(caught[0].message)
    np.testing.assert_allclose(y, adder_conv2d(x, f), rtol=1e-5)


def test_no_warning_under_xla_where_there_is_nothing_better(library):
    x, f = tf.random.normal([2, 7, 7, 3]), tf.random.normal([3, 3, 3, 4])
    paths._warn_once.cache_clear()
    with warnings.catch_warnings(), use_path("auto"):
        warnings.simplefilter("error")
        y = tf.function(lambda x, f: adder_conv2d(x, f), jit_compile=True)(x, f)
    np.testing.assert_allclose(y, numpy_adder.forward(x.numpy(), f.numpy()), rtol=1e-5)


def test_no_warning_where_stock_operations_are_meant(operations):
    x, f = tf.random.normal([2, 7, 7, 3]), tf.random.normal([3, 3, 3, 4])
    paths._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adder_conv2d(tf.cast(x, tf.float64), tf.cast(f, tf.float64))
        with use_path("reference"):
            tf.function(lambda x, f: adder_conv2d(x, f), jit_compile=True)(x, f)
