"""The integer reference beside both interpreters: single operators of random sizes and scales."""

import keras
import numpy as np
import pytest
from keras import layers
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite import Network, int8
from export.tflite.graph import Graph
from export.tflite.int8 import builtin, choice, reference
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.adder_models import to_bytes
from tests.networks import calibrated, images

SHAPE = (2, 5, 6, 7)
ACTIVATIONS = [getattr(schema.ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6")]
SEEDS = range(10)
OPTIONS = {"LEAKY_RELU": "LeakyRelu", "REDUCE_MAX": "Reducer", "LOGISTIC": None, "TANH": None}
KINDS = list(delegate_library.INTERPRETERS)


class Operator:
    """A model of one int8 operator."""

    def __init__(self, name, **options):
        self.values = []
        self.graph = Graph(to_bytes(_empty()))
        self.graph.model.operatorCodes = []
        for kind in ("tensors", "operators", "inputs", "outputs"):
            setattr(self.graph.subgraph, kind, [])
        self.operator = schema.OperatorT(inputs=[], outputs=[])
        self.operator.opcodeIndex = self.graph.operator_code(name, builtin.VERSIONS[name])
        kind = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}.get(name)
        kind = kind or ("Pool2D" if name.endswith("POOL_2D") else OPTIONS.get(name, name.title()))
        if kind:
            self.operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            self.operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        for option, value in options.items():
            assert hasattr(self.operator.builtinOptions, option)
            setattr(self.operator.builtinOptions, option, value)
        self.graph.subgraph.operators.append(self.operator)

    def given(self, values, step, zero):
        number = self.graph.add_tensor(values.shape, np.int8, f"x{len(self.values)}")
        self.graph.set_scale(number, step, zero)
        self.graph.subgraph.inputs.append(number)
        self.operator.inputs.append(number)
        self.values.append(values)

    def constant(self, values, step, zero, axis=0):
        number = self.graph.add_constant(values, "constant")
        self.graph.set_scale(number, step, zero, axis)
        self.operator.inputs.append(number)

    def assert_equals_reference(self, step, zero, kinds=KINDS, halves=0):
        """But for so many halves, which may round either way."""
        number = self.graph.add_tensor((1, 1, 1, 1), np.int8, "y")
        self.graph.set_scale(number, step, zero)
        self.operator.outputs = self.graph.subgraph.outputs = [number]
        given = dict(zip(self.graph.subgraph.inputs, self.values))
        expected = reference.compute(self.graph, self.operator, given)
        for kind in kinds:
            made = delegate_library.interpreter(self.graph.to_bytes(), kind)
            actual = delegate_library.run(made, *self.values)
            assert actual.shape == expected.shape, kind
            differences = actual.astype(int) - expected
            assert np.abs(differences).sum() <= halves, (kind, actual, expected)
        return expected


def _empty():
    return schema.ModelT(version=3, buffers=[schema.BufferT()], subgraphs=[schema.SubGraphT()])


def numbers(random, shape):
    return random.integers(-128, 128, shape).astype(np.int8)


def zero(random):
    return int(random.integers(-128, 128))


def size(random, low, high):
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def test_all_that_can_be_quantized_is_known_to_the_reference():
    assert not set(builtin.VERSIONS) - set(reference._OPERATORS)


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("widest", [8.0, 20000.0], ids=["like", "unlike"])
@pytest.mark.parametrize("seed", SEEDS)
def test_sums_and_products(name, widest, seed):
    """Unlike: steps that XNNPACK leaves to TFLite's own kernels, but for sums of smaller ones."""
    random = np.random.default_rng(seed)
    other = [SHAPE, (7,), (1,), (1, 1, 1, 7), (2, 1, 6, 1)][random.integers(5)]
    pair = [(SHAPE, False), (other, bool(random.integers(2)))]
    operator = Operator(name, fusedActivationFunction=int(random.choice(ACTIVATIONS)))
    steps = [size(random, 0.01, 0.01 * widest) for _ in pair]
    for place in random.permutation(2):
        shape, constant = pair[place]
        add = operator.constant if constant else operator.given
        add(numbers(random, shape), steps[place], zero(random))
    largest = 128 * steps[0] * steps[1] if name == "MUL" else max(steps)
    operator.assert_equals_reference(largest * size(random, 0.01, widest), zero(random))


@pytest.mark.parametrize("name", ["ADD", "SUB"])
@pytest.mark.parametrize("seed", SEEDS)
def test_sums_that_are_as_small_beside_their_terms_as_allowed(name, seed):
    """TFLite's own ADD, which serves from a ratio of 2**8 on, errs by the whole range."""
    random = np.random.default_rng(seed)
    operator = Operator(name)
    for step in (1.0, size(random, 0.01, 1.0)):
        operator.given(numbers(random, SHAPE), step, zero(random))
    operator.assert_equals_reference(1 / choice.LARGEST_RATIO, zero(random))


def window(random, **more):
    (down, right), same = (int(s) for s in random.integers(1, 4, 2)), random.integers(2)
    activation = int(random.choice(ACTIVATIONS))
    padding = schema.Padding.SAME if same else schema.Padding.VALID
    own = {"strideH": down, "strideW": right, "padding": padding}
    return own | {"fusedActivationFunction": activation} | more


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pools(name, seed):
    random = np.random.default_rng(seed)
    kernel = [int(s) for s in random.integers(1, 5, 2)]
    operator = Operator(name, **window(random), **dict(zip(POOL, kernel)))
    scale = size(random, 0.01, 1.0), zero(random)
    operator.given(numbers(random, (2, *random.integers(4, 9, 2), random.integers(1, 20))), *scale)
    operator.assert_equals_reference(*scale)


POOL = ("filterHeight", "filterWidth")


@pytest.mark.parametrize("seed", SEEDS)
def test_depthwise_convolutions(seed):
    random = np.random.default_rng(seed)
    kernel = [int(s) for s in random.integers(1, 4, 2)]
    channels, multiplier = (int(s) for s in random.integers(1, (18, 4)))
    own = window(random, depthMultiplier=multiplier)
    dilated = own["strideH"] == own["strideW"] == 1
    apart = random.integers(1, 3, 2) if dilated else (1, 1)
    own |= dict(zip(("dilationHFactor", "dilationWFactor"), map(int, apart)))
    operator = Operator("DEPTHWISE_CONV_2D", **own)
    outputs, step = channels * multiplier, size(random, 0.01, 1.0)
    operator.given(numbers(random, (2, *random.integers(5, 9, 2), channels)), step, zero(random))
    steps = np.float32([size(random, 1e-3, 0.05) for _ in range(outputs)])
    filters = random.integers(-127, 128, (1, *kernel, outputs)).astype(np.int8)
    operator.constant(filters, steps, 0, axis=3)
    operator.constant(random.integers(-3000, 3000, outputs).astype(np.int32), step * steps, 0)
    # TensorFlow's XNNPACK pads windows that are smaller than the stride at another place.
    gaps = own["strideH"] > kernel[0] or own["strideW"] > kernel[1]
    kinds = ["litert"] if gaps and own["padding"] == schema.Padding.SAME else KINDS
    kinds = [kind for kind in kinds if kind in KINDS]
    largest = size(random, 0.3, 20.0) * step * float(steps.mean()) * 128
    operator.assert_equals_reference(largest, zero(random), kinds)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("seed", SEEDS)
def test_functions_of_every_integer(name, seed):
    """Of large numbers too, and without an overflow."""
    random = np.random.default_rng(seed)
    operator = Operator(name)
    operator.given(np.arange(-128, 128, dtype=np.int8), size(random, 1e-3, 30.0), zero(random))
    scale = choice.PRESCRIBED[name]
    operator.assert_equals_reference(scale.step, scale.zero, halves=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_leaky_relus_of_every_integer(seed):
    random = np.random.default_rng(seed)
    step = size(random, 0.01, 1.0)
    operator = Operator("LEAKY_RELU", alpha=size(random, 0.001, 3.0))
    operator.given(np.arange(-128, 128, dtype=np.int8), step, zero(random))
    operator.assert_equals_reference(step * size(random, 0.03, 30.0), zero(random))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_joined_tensors(axis, seed):
    random = np.random.default_rng(seed)
    operator = Operator("CONCATENATION", axis=axis)
    scale = size(random, 0.01, 1.0), zero(random)
    for place in range(3):
        shape = list(SHAPE)
        shape[axis] = int(random.integers(1, 9))
        add = operator.constant if place == 1 else operator.given
        add(numbers(random, shape), *scale)
    assert operator.assert_equals_reference(*scale).ndim == 4


@pytest.mark.parametrize("axes", [[1, 2], [3], [-1, 0]])
@pytest.mark.parametrize("kept", [False, True])
def test_largest_numbers(axes, kept):
    random = np.random.default_rng(0)
    operator = Operator("REDUCE_MAX", keepDims=kept)
    operator.given(numbers(random, SHAPE), 0.5, 3)
    operator.operator.inputs.append(operator.graph.add_constant(np.int32(axes), "axes"))
    operator.assert_equals_reference(0.5, 3)


def block(x, random):
    """One of the operators, at random, with a scale of its own."""
    channels = x.shape[-1]
    conv = layers.Conv2D(channels, 1, kernel_initializer="he_normal")
    choices = [
        lambda: x + conv(x),
        lambda: conv(x) - x,
        lambda: x * keras.ops.sigmoid(float(random.normal())) + conv(x),
        lambda: layers.Multiply()([x, conv(x)]),
        lambda: layers.AveragePooling2D(int(random.integers(1, 4)), 1, "same")(x),
        lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x),
        lambda: layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x) - x,
        lambda: layers.ReLU()(x),
        lambda: layers.LeakyReLU(0.1)(x),
        lambda: layers.Concatenate()([x, conv(x)]),
        lambda: layers.Activation("sigmoid")(conv(x)) * x,
    ]
    return choices[random.integers(len(choices))]()


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2, 3))])
def test_random_networks(seed):
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    x = inputs = keras.Input((8, 8, 4))
    for _ in range(5):
        x = block(x, random)
    x = layers.BatchNormalization()(AdderConv2D(6, 3, padding="same")(x))
    model = calibrated(keras.Model(inputs, layers.Flatten()(block(x, random))))
    data, _ = int8.make(model, images(model, 32), delegate_library.path())
    (step,), (middle,) = Graph(data).scale(Graph(data).subgraph.inputs[0])
    batch = np.clip(np.rint(images(model, 4, seed=1) / step) + middle, -128, 127).astype(np.int8)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(batch))
    assert len(np.unique(output)) > 3
