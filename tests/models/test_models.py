"""Structure of the networks: shapes, weights, names, padding, what stays a multiplication."""

import functools
import inspect
import json
import re

import keras
import numpy as np
import pytest

from pkkd_tf import layers, models
from tests.networks import mostly_slow

# Published weights (convolutions and classifier), in millions, as the papers print them.
PUBLISHED_WEIGHTS = {
    "resnet20": "0.27",
    "vgg_small": "4.66",
    "resnet50": "25.6",
    "resnet18": "11.7",
}
SMALL = {"resnet18": (64, 64, 3), "resnet50": (64, 64, 3)}


@functools.cache
def build(name, kind="adder", **options):
    """A small one of each network; tests only look at it."""
    options = {"num_classes": 10, "input_shape": SMALL.get(name), **options}
    return models.build(name, kind, **options)


@pytest.mark.parametrize("name", models.MODELS)
def test_both_kinds_have_the_same_layers(name):
    adder, convolution = build(name, "adder"), build(name, "convolution")
    assert [layer.name for layer in adder.layers] == [layer.name for layer in convolution.layers]
    assert [w.shape for w in adder.weights] == [w.shape for w in convolution.weights]
    assert not any(isinstance(layer, layers.AdderConv2D) for layer in convolution.layers)


@pytest.mark.parametrize("name", models.MODELS)
def test_only_the_stated_layers_multiply(name):
    model = build(name)
    stock = [
        layer.name
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        and not isinstance(layer, layers.AdderConv2D)
    ]
    assert tuple(stock) == models.MODELS[name].multiplying
    assert all(
        not layer.use_bias
        for layer in model.layers
        if "conv" in layer.name and hasattr(layer, "use_bias") and layer.name != "head_conv"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("kind", ["adder", "convolution"])
def test_default_model(name, kind):
    entry = models.MODELS[name]
    model = models.build(name, kind)
    assert model.name == f"{name}_{kind}"
    assert model.input_shape == (None, *entry.input_shape)
    assert model.output_shape == (None, entry.num_classes)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (entry.norm_momentum, 1e-5)


@pytest.mark.parametrize("name", mostly_slow(PUBLISHED_WEIGHTS, "resnet20", "vgg_small"))
def test_number_of_weights_as_published(name):
    published = PUBLISHED_WEIGHTS[name]
    count = sum(int(np.prod(w.shape)) for w in models.build(name).trainable_variables) / 1e6
    assert count == pytest.approx(float(published), abs=0.6 * 10.0 ** -len(published.split(".")[1]))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("resnet20", ["32 16", "16 32", "8 64"]),
        ("resnet32", ["32 16", "16 32", "8 64"]),
        ("resnet18", ["16 64", "8 128", "4 256", "2 512"]),
        ("resnet50", ["16 256", "8 512", "4 1024", "2 2048"]),
    ],
)
def test_stage_outputs(name, expected):
    shapes = {layer.name: layer.output.shape for layer in build(name).layers}
    ends = [n for n in shapes if re.fullmatch(r"stage\d_block\d_add", n)]
    last = {n[:6]: f"{shapes[n][1]} {shapes[n][3]}" for n in ends}
    assert list(last.values()) == expected


def test_depths():
    """The number in a name: weighted layers on the longest path, shortcuts not counted."""
    for name in ("resnet18", "resnet20", "resnet32", "resnet50"):
        names = [layer.name for layer in build(name).layers]
        weighted = [n for n in names if re.search(r"conv\d?$", n) and "shortcut" not in n]
        assert len(weighted) == int(name.removeprefix("resnet"))


@pytest.mark.parametrize("name", mostly_slow(["resnet18", "resnet50", "resnet20"], "resnet20"))
def test_strides_pad_both_sides(name):
    """PyTorch's geometry: `kernel // 2` zeros on every side, the stride in a bottleneck's 3x3."""
    model = build(name)
    strided = [layer for layer in model.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    assert strided
    for layer in strided:
        size = getattr(layer, "kernel_size", None) or layer.pool_size
        assert layer.padding == "valid"
        if size[0] > 1:
            pad = model.get_layer(f"{layer.name}_pad")
            assert pad.padding == ((size[0] // 2,) * 2,) * 2
    names = {layer.name for layer in strided}
    assert ("stage2_block1_conv2" in names) == (name == "resnet50")


@pytest.mark.parametrize("name", mostly_slow(["resnet20", "resnet50"], "resnet20"))
def test_logits_are_normalized(name):
    model = build(name)
    assert [layer.name for layer in model.layers[-4:]] == [
        "pool",
        "head_conv",
        "head_norm",
        "logits",
    ]
    assert model.get_layer("head_conv").use_bias == (name == "resnet50")


def test_vgg_pools_before_it_normalizes():
    names = [layer.name for layer in build("vgg_small").layers]
    first = names.index("conv1")
    assert names[first : first + 4] == ["conv1", "conv1_pool", "conv1_norm", "conv1_relu"]
    assert "conv0_pool" not in names


def test_initial_filters():
    keras.utils.set_random_seed(1)
    adder, convolution = (build("resnet20", kind) for kind in ("adder", "convolution"))
    name = "stage3_block3_conv2"  # 36864 filters: their spread is known within 0.4 %
    spread = [float(np.std(m.get_layer(name).kernel)) for m in (adder, convolution)]
    assert spread == pytest.approx([1.0, (2 / (9 * 64)) ** 0.5], rel=0.02)


def test_unknown_image_size():
    model = models.resnet20(input_shape=(None, None, 3))
    assert model(np.zeros((2, 24, 20, 3), "float32")).shape == (2, 10)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits(policy):
    keras.config.set_dtype_policy(policy)
    logits = build("digits_resnet")(np.random.rand(2, 8, 8, 1))
    assert logits.dtype == "float32" and np.isfinite(logits).all()


def test_input_gradient_reaches_every_adder():
    model = build("resnet20", input_gradient="sign")
    adders = [layer for layer in model.layers if isinstance(layer, layers.AdderConv2D)]
    assert len(adders) == 20 and {layer.input_gradient for layer in adders} == {"sign"}


@pytest.mark.parametrize("name", models.MODELS)
def test_builders_share_their_arguments(name):
    parameters = list(inspect.signature(models.MODELS[name].function).parameters)
    assert parameters == [
        "num_classes",
        "input_shape",
        "kind",
        "input_gradient",
        "name",
        "norm_momentum",
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"model_name": "resnet21"},
            "`model_name` must be one of ['digits_resnet', 'resnet18', 'resnet20', 'resnet32', "
            "'resnet50', 'vgg_small']. Received: model_name='resnet21'",
        ),
        (
            {"kind": "adders"},
            "`kind` must be one of ('adder', 'convolution'). Received: kind='adders'",
        ),
        (
            {"num_classes": 0},
            "`num_classes` must be a positive integer. Received: num_classes=0",
        ),
        (
            {"input_shape": (32, 32)},
            "`input_shape` must be (height, width, channels), height and width positive or None, "
            "channels positive. Received: input_shape=(32, 32)",
        ),
        ({"input_shape": (32, 32, None)}, "Received: input_shape=(32, 32, None)"),
        ({"input_shape": (0, 32, 3)}, "Received: input_shape=(0, 32, 3)"),
        (
            {"input_gradient": "exact"},
            "`input_gradient` must be one of ('clipped', 'sign'). Received: input_gradient='exact'",
        ),
        (
            {"model_name": "vgg_small", "input_shape": (None, 32, 3)},
            "VGG-small's classifier needs a known `input_shape`, of at least 8 x 8 pixels. "
            "Received: input_shape=(None, 32, 3)",
        ),
        ({"model_name": "vgg_small", "input_shape": (9, 7, 3)}, "Received: input_shape=(9, 7, 3)"),
        ({"input_shape": 32}, "Received: input_shape=32"),
        ({"kind": "convolution", "input_gradient": "exact"}, "Received: input_gradient='exact'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.build(**{"model_name": "resnet20", **arguments})


@pytest.mark.parametrize("name", ["digits_resnet", "vgg_small"])
def test_numpy_integers_are_integers(name):
    shape = (32, 32, 3)
    expected = models.build(name, num_classes=7, input_shape=shape, name="net")
    actual = models.build(name, num_classes=np.int64(7), input_shape=np.array(shape), name="net")
    assert json.dumps(actual.get_config()) == json.dumps(expected.get_config())


def test_momentum_of_the_statistics_is_a_share():
    with pytest.raises(ValueError, match=r"in \[0, 1\). Received: norm_momentum=5.0"):
        models.resnet20(norm_momentum=5.0)


def test_weights_mean_the_same_whatever_the_data_format_of_keras():
    """Also where a classifier sees every pixel."""
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    keras.utils.set_random_seed(0)
    network = models.vgg_small(input_shape=(16, 16, 3))
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        other = models.vgg_small(input_shape=(16, 16, 3))
    finally:
        keras.config.set_image_data_format(before)
    other.set_weights(network.get_weights())
    np.testing.assert_array_equal(other(images), network(images))
