"""Examples in docstrings that are quick run as they stand, with only imports before them."""

import doctest
import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf

LIBRARIES = {"pkkd_tf": pkkd_tf, "keras": keras, "np": np, "tf": tf}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("distillation", "FeatureLoss"),
        ("distillation", "SquaredDistance"),
        ("distillation", "match_layers"),
        ("models", "block_ends"),
        ("quantization", "SharedRange"),
        ("quantization", "ranges"),
        ("quantization", "tensor_ranges"),
    ],
)
def test_an_example_runs(module, name):
    public = importlib.import_module(f"pkkd_tf.{module}")
    names = {**vars(public), **LIBRARIES}
    examples = doctest.DocTestParser().get_examples(getattr(public, name).__doc__)
    assert examples
    for example in examples:
        exec(compile(example.source, name, "single"), names)
