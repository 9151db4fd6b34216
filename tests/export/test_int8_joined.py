"""int8 of joined tensors, which have one scale, and of operators whose scale is given."""

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError
from export.tflite import Network, int8
from export.tflite.graph import Graph, get_options
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.export.test_int8_operators import FLOAT_OUTPUTS, adder, functional, quantized
from tests.networks import images, mostly_slow


def conv(x, filters=4, size=3):
    return layers.Conv2D(filters, size, padding="same")(x)


def join(*tensors):
    return layers.Concatenate()(tensors)


def dense_block(x):
    """Every layer reads all before it, so that all have one scale."""
    for _ in range(3):
        x = join(x, layers.ReLU()(conv(x)))
    return adder(3)(x)


def crossing(x):
    """Each of two joined tensors is a sum that the other's scale bears on."""
    first = conv(x) * 50.0
    second = layers.Add()([first, conv(x)])
    third = layers.Add()([second, conv(x)])
    return adder(3)(join(first, third))


JOINED = {
    "of two ranges": lambda x: adder(3)(join(conv(x) * 10.0, conv(x))),
    "rows": lambda x: adder(3)(layers.Concatenate(1)([conv(x), x * 4.0, conv(x)])),
    "with a constant": lambda x: adder(3)(
        keras.ops.concatenate([conv(x)[:, :1], 9.0 * np.ones((1, 1, 8, 4), "f")], 1)
    ),
    "not read by adders": lambda x: conv(join(adder(4, 3)(x), adder(2, 3)(x * 9.0))),
    "twice the same": lambda x: adder(3)(join(*2 * [conv(x)])),
    "dense block": dense_block,
    "crossing": crossing,
    "pooled": lambda x: adder(3)(join(layers.AveragePooling2D(2)(x), conv(x * 5.0)[:, ::2, ::2])),
}


@pytest.mark.parametrize("bits", (8, pytest.param(5, marks=pytest.mark.long)))
@pytest.mark.parametrize("name", JOINED)
def test_joined_tensors_have_one_scale(name, bits):
    model = functional((8, 8, 4), JOINED[name])
    batch = images(model, 1 if name == "with a constant" else 32)
    data, report = int8.make(model, batch, delegate_library.path(), bits)
    assert report["difference"] < (FLOAT_OUTPUTS if bits == 8 else 0.3)
    graph = Graph(data)
    for operator in graph.named("CONCATENATION"):
        found = [graph.scale(t) for t in (*operator.inputs, *operator.outputs)]
        assert all(scale == found[0] for scale in found)
    (step,), (zero,) = graph.scale(graph.subgraph.inputs[0])
    integers = np.clip(np.rint(batch / step) + zero, -128, 127).astype(np.int8)
    output = Network(data, delegate_library.path())(integers)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(integers))
    assert len(np.unique(output)) > 3


def test_an_adders_relu_ends_at_the_zero_of_a_joined_scale():
    def build(x):
        return conv(join(layers.ReLU()(adder(6, 1, 3.0)(x)), conv(x, 6)))

    graph = Graph(quantized(functional((8, 8, 3), build))[0])
    (operator,) = graph.named("AdderConv2D")
    (zero,) = graph.scale(operator.outputs[0])[1]
    assert get_options(operator)["low"] == zero > -128


FUNCTIONS = {
    "LEAKY_RELU": layers.LeakyReLU(0.2),
    "LOGISTIC": layers.Activation("sigmoid"),
    "TANH": layers.Activation("tanh"),
    "ELU": layers.ELU(),
    "GELU": layers.Activation("gelu"),
    "GELU, approximate": lambda x: keras.ops.gelu(x, approximate=True),
    "HARD_SWISH": layers.Activation("hard_silu"),
    "PRELU": layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(-0.3, 0.5, seed=1)),
    "PRELU, a channel": layers.PReLU("uniform", shared_axes=(1, 2)),
}


@pytest.mark.parametrize("name", mostly_slow(FUNCTIONS, "HARD_SWISH", "PRELU"))
def test_a_function_gives_the_reference_for_every_integer(name):
    model = functional((8, 8, 4), lambda x: adder(4)(FUNCTIONS[name](x)))
    data, report = quantized(model, 2 * images(model, 32))
    assert report["difference"] < FLOAT_OUTPUTS and Graph(data).named(name.split(",")[0])
    batch = np.resize(np.arange(-128, 128), (4, 8, 8, 4)).astype(np.int8)
    output = Network(data, delegate_library.path())(batch)
    difference = output.astype(int) - int8.IntegerNetwork(data)(batch)
    assert np.abs(difference).max() <= 1 and len(np.unique(output)) > 3


def test_squeeze_and_excitation():
    """A sigmoid's 1/256 times an activation, over all pixels of a channel."""

    def build(x):
        h = adder(4, 3)(x)
        squeezed = layers.Dense(4)(layers.GlobalAveragePooling2D()(h))
        gates = layers.Reshape((1, 1, 4))(layers.Activation("sigmoid")(squeezed))
        return adder(3)(h * gates)

    data, report = quantized(functional((8, 8, 4), build))
    assert report["difference"] < FLOAT_OUTPUTS and Graph(data).named("LOGISTIC")


def test_the_largest_of_all_pixels_keeps_its_scale():
    def build(x):
        return layers.Dense(3)(layers.GlobalMaxPooling2D()(adder(4, 3)(x)))

    data, report = quantized(functional((8, 8, 4), build))
    graph = Graph(data)
    (operator,) = graph.named("REDUCE_MAX")
    assert graph.scale(operator.inputs[0]) == graph.scale(operator.outputs[0])
    assert report["difference"] < FLOAT_OUTPUTS


def test_given_scales_are_not_joined_with_others():
    def build(x):
        return adder(2)(join(layers.Activation("tanh")(x), conv(x)))

    received = "Received: joined outputs of (TANH, CONV_2D|CONV_2D, TANH), bits=8"
    with pytest.raises(ExportError, match=f"cannot be joined with them. {received}"):
        quantized(functional((8, 8, 4), build))


def test_given_scales_are_of_eight_bits():
    model = functional((8, 8, 4), lambda x: adder(2)(layers.Activation("tanh")(x)))
    with pytest.raises(ExportError, match="outputs of TANH, bits=4"):
        int8.make(model, images(model, 8), delegate_library.path(), 4)


@pytest.mark.parametrize("bits", (5, pytest.param(8, marks=pytest.mark.slow)))
def test_a_file_rounds_as_the_fine_tuned_network_does(bits):
    """Joined, pooled both ways; the network's ranges are the file's scales."""

    def build(x):
        h = layers.ReLU()(conv(x, 4))
        h = join(layers.MaxPooling2D()(h), layers.AveragePooling2D(2)(layers.ReLU()(conv(h, 4))))
        h = layers.ReLU()(layers.BatchNormalization()(adder(6, 3)(h)))
        return adder(5)(layers.MaxPooling2D()(h))

    model = functional((12, 12, 3), build)
    batch = images(model, 32)
    trained = quantization.quantize_model(model, batch, bits)
    data, report = int8.make(trained, batch, delegate_library.path())
    assert report["difference"] < 0.02
    graph = Graph(data)
    (joined,) = graph.named("CONCATENATION")
    ends = quantization.ranges(trained).values()
    (low, high), _ = (entry["ranges"][0] for entry in ends)
    ((step,), _) = graph.scale(joined.outputs[0])
    np.testing.assert_allclose(step, (high - low) / (2**bits - 1), rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 8])
def test_what_an_adder_layer_reads_does_not_cut_off_what_is_joined_to_it(factor):
    def build(x):
        narrow = layers.ReLU()(conv(x))
        norm = layers.BatchNormalization(name="norm")
        wide = layers.ReLU()(norm(AdderConv2D(4, 3, padding="same")(narrow)))
        return layers.Dense(3)(layers.GlobalAveragePooling2D()(conv(join(narrow, wide), 8, 1)))

    model = functional((8, 8, 4), build)
    samples = images(model, 32)
    quantization.reestimate_batch_norm(model, samples)
    gamma = model.get_layer("norm").gamma
    gamma.assign(gamma * factor)
    _, report = quantized(model)
    assert report["difference"] < 0.03
    rounded = np.asarray(quantization.quantize_model(model, samples)(samples))
    exact = np.asarray(model(samples))
    assert np.square(rounded - exact).mean() < 0.06**2 * np.square(exact).mean()
