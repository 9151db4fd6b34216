"""int8 files of fine-tuned networks: they round where the network rounds, in the same ranges."""

import numpy as np
import pytest
from keras import layers
from keras.initializers import RandomNormal

from export.tflite import int8
from export.tflite.graph import Graph, get_options
from export.tflite.int8.known import Known
from export.tflite.int8.summary import Summary
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.export.test_int8_operators import adder, functional
from tests.networks import calibrated, images, mostly_slow


def norm(x):
    return layers.BatchNormalization(momentum=0.9)(x)


def conv_stem(x):
    """No adder layer reads the images, the pixels' means or the logits."""
    h = layers.ReLU()(norm(layers.Conv2D(6, 3, padding="same")(x)))
    h = layers.ReLU()(norm(layers.DepthwiseConv2D(3, padding="same")(h)))
    h = layers.ReLU()(norm(AdderConv2D(8, 3)(h)))
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(h))


def sums(shortcut_first):
    def build(x):
        h = layers.ReLU()(norm(AdderConv2D(6, 3, padding="same")(x)))
        branch = norm(AdderConv2D(6, 3, padding="same", name="branch")(h))
        operands = [h, branch] if shortcut_first else [branch, h]
        return adder(4)(layers.ReLU()(layers.Add()(operands)))

    return build


def projected(shortcut_first):
    """Both operands are adders': the first one's operator does the addition."""

    def build(x):
        h = layers.ReLU()(norm(AdderConv2D(6, 3, padding="same")(x)))
        long = norm(AdderConv2D(6, 3, padding="same", name="branch")(h))
        short = norm(AdderConv2D(6, 1, name="short")(h))
        return adder(4)(
            layers.ReLU()(layers.Add()([short, long] if shortcut_first else [long, short]))
        )

    return build


NETWORKS = {
    "conv stem": conv_stem,
    "branch first": sums(False),
    "shortcut first": sums(True),
    "long branch first": projected(False),
    "short branch first": projected(True),
}


@pytest.mark.parametrize("bits", (8, pytest.param(5, marks=pytest.mark.slow)))
@pytest.mark.parametrize("name", mostly_slow(NETWORKS, "conv stem"))
def test_every_tensor_keeps_its_range(name, bits):
    """Also those that were changed after the calibration."""
    model = calibrated(functional((8, 8, 3), NETWORKS[name]))
    batch = images(model, 32)
    trained = quantization.quantize_model(model, batch, bits)
    ends = quantization.tensor_ranges(trained)
    for tensor, (low, high) in ends.items():
        trained.get_layer(f"{tensor}_quantize").range.assign([(0.8 * low, 0.8 * high)])
    for layer in quantization.ranges(trained):
        ((low, high),) = quantization.ranges(trained)[layer]["ranges"]
        trained.get_layer(layer).range.assign([(0.8 * low, 0.8 * high)])
    data, report = int8.make(trained, batch, delegate_library.path())
    graph = Graph(data)
    found = {
        round(graph.scale(t)[0][0], 7) for o in graph.operators for t in o.outputs if graph.scale(t)
    }
    found |= {round(graph.scale(graph.subgraph.inputs[0])[0][0], 7)}
    for tensor in ends:
        step = trained.get_layer(f"{tensor}_quantize").range.scale
        assert round(float(step[0]), 7) in found, tensor
    assert report["difference"] < (0.004 if bits == 8 else 0.02)


@pytest.mark.slow
def test_the_first_of_two_adders_does_the_addition():
    for shortcut_first, size in ((False, 3), (True, 1)):
        model = functional((8, 8, 3), projected(shortcut_first))
        data, _ = int8.make(model, images(model, 8), delegate_library.path())
        graph = Graph(data)
        adding = [o for o in graph.named("AdderConv2D") if get_options(o).get("residual")]
        assert [graph.shape(o.inputs[1])[0] for o in adding] == [size] and not graph.named("ADD")


def test_ranges_are_told_by_what_a_tensor_holds():
    held = np.array([0.0, 2.0, 1.0]), np.array([-1.0, 2.0, 1.0]), np.array([0.0, 2.0, 1.01])
    ends = (0.0, 1.5), (-1.0, 1.0), (0.0, 1.9)
    known = Known(tensors=[(Summary().joined(x), e) for x, e in zip(held, ends)])

    def found(*numbers):
        return known.of_tensor(Summary().joined(np.array(numbers)))

    assert found(0.0, 2.0001, 1.0) == (0.0, 1.5) and found(0.0, 1.0, 2.0) == (0.0, 1.5)
    assert found(0.0, 2.0, 1.0099) == (0.0, 1.9) and found(-1.0, 2.0, 1.0) == (-1.0, 1.0)
    assert found(-0.99, 2.0, 1.0) is None and found(0.0) is None
    assert found(0.0, 2.0, 0.5) is None  # the ends alone are alike
    assert found(0.0, 2.0, 0.5, 1.5) is None  # the mean too
    assert Known().of_tensor(Summary()) is None


def saturated(x):
    """Two tensors of the same ends, read by no adder layer."""
    h = x
    for name in ("one", "two", "three"):
        h = layers.Conv2D(6, 3, padding="same", kernel_initializer=RandomNormal(stddev=2))(h)
        h = layers.ReLU(6.0, name=name)(h)
    return adder(4)(h)


def test_tensors_of_the_same_ends_keep_their_own_ranges():
    model = functional((8, 8, 3), saturated)
    batch = images(model, 32)
    trained = quantization.quantize_model(model, batch, 8)
    for name, high in (("one", 4.0), ("two", 5.0)):
        trained.get_layer(f"{name}_quantize").range.assign([(0.0, high)])
    graph = Graph(int8.make(trained, batch, delegate_library.path())[0])
    steps = [graph.scale(o.outputs[0])[0][0] for o in graph.named("CONV_2D")]
    np.testing.assert_allclose(steps[:2], (4 / 255, 5 / 255), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kept", (True, False))
def test_dense_layers_on_pixels(kept):
    """Keras computes shapes around them, which have no int8 form."""

    def build(x):
        h = layers.ReLU()(norm(AdderConv2D(6, 3, padding="same")(x)))
        gates = layers.GlobalAveragePooling2D(keepdims=True)(h) if kept else h
        gates = layers.Dense(6, activation="sigmoid")(layers.Dense(4, activation="relu")(gates))
        return adder(4)(layers.Multiply()([h, gates]))

    model = calibrated(functional((8, 8, 3), build))
    batch = images(model, 32)
    data, report = int8.make(model, batch, delegate_library.path())
    assert report["difference"] < 0.06
    assert {"SHAPE", "GATHER", "PACK"}.isdisjoint(
        {Graph(data).name(o) for o in Graph(data).operators}
    )
    trained = quantization.quantize_model(model, batch)
    _, report = int8.make(trained, batch, delegate_library.path())
    assert report["difference"] < 0.01


@pytest.mark.slow
def test_rows_of_convolutions():
    """Keras' one-dimensional convolution is one of images in TFLite."""

    def build(x):
        rows = layers.Reshape((16, 12))(x)
        rows = layers.ReLU()(layers.Conv1D(8, 3, padding="same")(rows))
        return adder(4)(layers.Reshape((4, 4, 8))(rows))

    model = functional((8, 8, 3), build)
    data, report = int8.make(model, images(model, 32), delegate_library.path())
    assert report["difference"] < 0.06
    output = int8.IntegerNetwork(data)(np.zeros((2, 8, 8, 3), np.int8))
    assert output.shape == (2, 64)
