"""Small networks whose outputs depend on their images without any training."""

import keras
import numpy as np
import pytest


def calibrated(model):
    """Batch statistics of its own, without which every ReLU of an untrained network is dead."""
    images = np.random.default_rng(1).standard_normal((8, *model.input_shape[1:]))
    for _ in range(40):
        model(images.astype("float32"), training=True)
    return model


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def images(model, count, seed=0):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def mostly_slow(names, *quick):
    """Parameters of a test, all but the quick ones of which are slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
