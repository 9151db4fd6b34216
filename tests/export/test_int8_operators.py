"""int8 of single operators, of tensors that hold nothing, and what is refused for its numbers."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError
from export.tflite import Network, int8
from export.tflite.graph import Graph
from export.tflite.int8 import choice, moving, reference
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.networks import images

FLOAT_OUTPUTS = 0.06  # of their root mean square, what rounding may change


def functional(shape, build):
    keras.utils.set_random_seed(1)
    x = keras.Input(shape)
    return keras.Model(x, layers.Flatten()(build(x)))


def adder(filters, size=1, bias=0.0):
    return AdderConv2D(
        filters, size, use_bias=True, bias_initializer=keras.initializers.Constant(bias)
    )


def quantized(model, batch=None):
    batch = images(model, 32) if batch is None else batch
    return int8.make(model, batch, delegate_library.path())


def steps(data, name):
    graph = Graph(data)
    return [
        [graph.scale(tensor) for tensor in (operator.inputs[0], operator.outputs[0])]
        for operator in graph.named(name)
    ]


SLICES = {
    "subsampled": lambda h: h[:, ::2, ::2, :],
    "odd": lambda h: h[:, 1::2, 1:-2:3, :],
    "backwards": lambda h: h[:, ::-1, -3:1:-1, :],
    "channels": lambda h: h[..., :2],
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_of_activations_keep_their_scale(name):
    """What is cut off is larger than what is kept, so the scales of both would differ."""
    cut = SLICES[name]
    model = functional((8, 8, 3), lambda x: adder(4, 1, 5.0)(cut(layers.Conv2D(4, 3)(x))))
    batch = images(model, 32)
    batch[:, 1::2] *= 10
    data, report = quantized(model, batch)
    ((before, after),) = steps(data, "STRIDED_SLICE")
    assert before == after
    assert report["difference"] < FLOAT_OUTPUTS
    batch = np.clip(np.rint(batch * 4), -128, 127).astype(np.int8)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(batch))
    assert len(np.unique(output)) > 3


MASKS = ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")


def sliced(x, *places, offset=False, **masks):
    options = types.SimpleNamespace(**(dict.fromkeys(MASKS, 0) | masks), offset=offset)
    return moving.OPERATORS["STRIDED_SLICE"](options, [x, *map(np.array, places)], None)


def test_the_reference_slices_as_numpy_does():
    x = np.arange(120).reshape(2, 3, 4, 5)
    whole = sliced(x, [0, 1, 0, 2], [2, 3, 4, 5], [1, 1, 2, 2])
    np.testing.assert_array_equal(whole, x[:, 1:, ::2, 2::2])
    one = sliced(x, [1, 9], [0, 2], [1, 1], shrinkAxisMask=1, beginMask=2)
    np.testing.assert_array_equal(one, x[1, :2])
    last = sliced(x, [0, 3], [0, 0], [1, -1], ellipsisMask=1, endMask=2)
    np.testing.assert_array_equal(last, x[..., 3::-1])
    np.testing.assert_array_equal(sliced(x, [0, 1], [0, 2], [1, 1], newAxisMask=1), x[None, 1:2])
    sized = sliced(x, [0, 1, 1, 1], [1, 1, 2, 3], [1, 1, 1, 1], offset=True)
    np.testing.assert_array_equal(sized, x[:1, 1:2, 1:3, 1:4])


def test_stacked_activations_are_refused_by_name():
    def build(x):
        stacked = keras.ops.stack([layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)], -1)
        return adder(2)(layers.Reshape((6, 6, 8))(stacked))

    with pytest.raises(ExportError, match="int8 network must be among .* Received: PACK"):
        quantized(functional((8, 8, 3), build))


def test_a_builtin_operator_that_errs_is_not_written(monkeypatch):
    model = functional((6, 6, 3), lambda x: adder(2)(layers.Conv2D(4, 3)(x)))
    actual = reference._OPERATORS["CONV_2D"]
    wrong = {"CONV_2D": lambda *inputs: actual(*inputs) // 2}
    monkeypatch.setattr(reference, "_OPERATORS", reference._OPERATORS | wrong)
    with pytest.raises(ExportError, match="was not written. Received: operator=CONV_2D, outputs"):
        quantized(model)


def test_tensors_that_must_share_a_scale_are_compared(monkeypatch):
    model = functional((8, 8, 3), lambda x: adder(2)(layers.Conv2D(4, 3)(x)[:, ::2, ::2, :]))
    monkeypatch.setattr(choice, "tied_groups", lambda graph, tensors: [[t] for t in tensors])
    with pytest.raises(ExportError, match="a STRIDED_SLICE must have one step and zero point"):
        quantized(model)


def test_fused_activations_and_groups_are_the_references():
    """A ReLU6 and a grouped convolution, in one TFLite operator each."""

    def build(x):
        h = layers.ReLU(6.0)(layers.Conv2D(4, 3, kernel_initializer="he_normal")(x) * 4.0)
        return adder(2)(layers.Conv2D(6, 3, groups=2)(h))

    model = functional((8, 8, 3), build)
    data, report = quantized(model)
    assert report["difference"] < FLOAT_OUTPUTS


@pytest.mark.parametrize("bias", (1.0, 0.0))
def test_a_tensor_that_is_zero_on_the_calibration_images(bias):
    """An ADD of a step much smaller than its inputs' would end the process."""

    def build(x):
        h = keras.layers.ReLU(6.0)(AdderConv2D(4, 3)(x) + bias)
        return adder(2, 1, 3.0)(h)

    model = functional((8, 8, 3), build)
    data, report = quantized(model)
    assert report["difference"] < FLOAT_OUTPUTS and not report["alive"]
    for operator in Graph(data).operators:
        for scale, _ in (Graph(data).scale(t) for t in operator.outputs):
            assert min(scale) > 1e-3


def test_a_difference_that_is_much_smaller_than_its_terms():
    def build(x):
        h = layers.ReLU()(x)
        return layers.Conv2D(3, 1)(h - h * (1 - 1e-6)) + adder(3)(x)

    graph = Graph(quantized(functional((6, 6, 3), build))[0])
    (difference,) = graph.named("SUB")
    steps = [graph.scale(t)[0][0] for t in (*difference.inputs, *difference.outputs)]
    np.testing.assert_allclose(steps[2], max(steps[:2]) / choice.LARGEST_RATIO)


@pytest.mark.parametrize("top", (None, 6.0))
def test_a_relu_of_its_own_gives_the_reference_for_every_integer(top):
    model = functional((8, 8, 3), lambda x: adder(4)(layers.ReLU(top)(x)))
    data, report = quantized(model, 4 * images(model, 32))
    name = "RELU" if top is None else "RELU6"
    assert report["difference"] < FLOAT_OUTPUTS and Graph(data).named(name)
    batch = np.resize(np.arange(-128, 128), (4, 8, 8, 3)).astype(np.int8)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(batch))
