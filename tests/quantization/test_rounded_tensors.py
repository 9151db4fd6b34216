"""Which tensors are rounded, and which of them in one range."""

import keras
import numpy as np
import pytest
from keras import layers

from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.quantization.placement import adder_sources, tied_tensors


def conv(x, name):
    return layers.Conv2D(4, 3, padding="same", name=name)(x)


def network(build):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model(image, build(image))


def batch():
    return np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")


def pooled_relu(x):
    h = layers.MaxPooling2D(name="pool")(layers.ReLU(name="relu")(conv(x, "conv")))
    return AdderConv2D(2, 1, name="adder")(h)


def pooled_sums(x):
    h = layers.MaxPooling2D(name="pool")(conv(x, "conv"))
    h = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(h))
    return AdderConv2D(2, 1, name="adder")(h)


def pooled_last(x):
    return layers.MaxPooling2D(name="pool")(layers.ReLU(name="relu")(conv(x, "conv")))


def shortcut_first(x):
    h = layers.BatchNormalization(name="branch")(AdderConv2D(4, 1, name="adder")(x))
    return layers.Add(name="sum")([conv(x, "conv"), h])


def two_branches(x):
    """The first of two adders does the addition."""
    h = layers.BatchNormalization(name="branch")(AdderConv2D(4, 1, name="adder")(x))
    return layers.Add(name="sum")([AdderConv2D(4, 1, name="other")(x), h])


def pooled_branch(x):
    """A pool between keeps the sum out of the adder's operator."""
    h = layers.MaxPooling2D(name="pool")(AdderConv2D(4, 1, name="adder")(x))
    return layers.Add(name="sum")([h, layers.MaxPooling2D(name="pool2")(conv(x, "conv"))])


def gated(x):
    h = layers.Activation("sigmoid", name="gate")(conv(x, "conv"))
    return layers.Activation("relu", name="relu")(AdderConv2D(2, 1, name="adder")(h))


ROUNDED = {
    pooled_relu: ["image", "relu", "adder"],
    pooled_sums: ["image", "relu", "adder"],
    pooled_last: ["image", "relu"],
    shortcut_first: ["image", "conv", "sum"],
    two_branches: ["image", "branch", "sum"],
    pooled_branch: ["image", "adder", "conv", "sum"],
    gated: ["image", "conv", "gate", "relu"],
}


@pytest.mark.parametrize("build", ROUNDED)
def test_what_an_operator_stores_is_rounded(build):
    assert quantization.rounded_tensors(network(build)) == ROUNDED[build]


def test_adders_that_read_a_pooled_activation_are_calibrated():
    """Every range is one that was measured: none is what a range is before."""
    model = network(pooled_relu)
    quantized = quantization.quantize_model(model, batch())
    ends = quantization.ranges(quantized)["adder"]["ranges"]
    assert ends == [quantization.tensor_ranges(quantized)["relu"]]
    activations = keras.Model(model.input, model.get_layer("relu").output)(batch())
    assert 0.5 < ends[0][1] / np.max(activations) <= 1.0
    exact = np.asarray(model(batch()))
    error = np.sqrt(np.mean((quantized(batch()) - exact) ** 2) / np.mean(exact**2))
    assert error < 0.02


def joined(x):
    first = layers.ReLU(name="first")(conv(x, "conv"))
    second = conv(first, "conv2")
    h = layers.Concatenate(name="join")([layers.ZeroPadding2D(0, name="pad")(first), second])
    h = layers.AveragePooling2D(2, name="pool")(h)
    return AdderConv2D(2, 3, name="adder")(h)


TIED = [["image"], ["first", "conv2", "pool"], ["adder"]]


def test_joined_and_averaged_tensors_have_one_range():
    model = network(joined)
    assert tied_tensors(model) == TIED and adder_sources(model) == {"pool": ["adder"]}
    for bits, groups, own in ((8, 1, 8), (4, 1, 4), (4, 2, 8)):
        quantized = quantization.quantize_model(model, batch(), bits, groups)
        found = quantization.tensor_ranges(quantized)
        assert len({found[name] for name in TIED[1]}) == 1
        widths = {quantized.get_layer(f"{name}_quantize").bits for name in TIED[1]}
        assert widths == {own} and found["conv2"][0] < 0 < found["conv2"][1]
    assert len(quantization.ranges(quantized)["adder"]["ranges"]) == 2


def test_each_adder_that_reads_joined_tensors_bears_on_their_range():
    def build(x):
        first, second = conv(x, "first"), conv(x, "second")
        layer = AdderConv2D(2, 1, name="before")(first)
        h = layers.Concatenate(name="join")([first, second])
        return layers.Concatenate(name="end")([layer, AdderConv2D(2, 1, name="after")(h)])

    model = network(build)
    assert adder_sources(model) == {"first": ["before", "after"], "second": ["after"]}
    assert tied_tensors(model) == [["image"], ["first", "second"], ["before", "after"]]
    quantized = quantization.quantize_model(model, batch())
    ends = [entry["ranges"] for entry in quantization.ranges(quantized).values()]
    assert ends[0] == ends[1] == [quantization.tensor_ranges(quantized)["first"]]


def late_norm(x):
    """A stream's normalization is an operator of its own, a convolution's is not."""
    stream = layers.Add(name="stream")([conv(x, "conv"), conv(x, "other")])
    h = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(stream))
    h = layers.BatchNormalization(name="after_relu")(h)
    return AdderConv2D(2, 1, name="adder")(h)


def pooled_sum(x):
    """LeNet's order."""
    h = layers.Activation("relu", name="relu")(layers.AveragePooling2D(2, name="p")(conv(x, "c")))
    return layers.Add(name="sum")([AdderConv2D(4, 1, name="adder")(h), h])


@pytest.mark.parametrize(
    "build, names",
    [
        (late_norm, ["image", "conv", "other", "stream", "relu", "after_relu", "adder"]),
        (pooled_sum, ["image", "c", "p", "relu", "sum"]),
    ],
)
def test_what_no_operator_takes_in_is_rounded(build, names):
    model = network(build)
    assert quantization.rounded_tensors(model) == names
    exact = np.asarray(model(batch()))
    quantized = quantization.quantize_model(model, batch())
    assert np.abs(quantized(batch()) - exact).mean() < 0.05 * np.abs(exact).mean()
