"""Whole networks: where they round, how well they are calibrated, what can be read off them."""

import functools
import re

import keras
import numpy as np
import pytest

import pkkd_tf
from pkkd_tf import layers, quantization
from pkkd_tf.quantization import QuantizedAdderConv2D, QuantizedConv2D, network


@pytest.fixture(scope="module")
def images():
    return pkkd_tf.data.load("digits").sample(48)


@pytest.fixture(scope="module")
def trained(images):
    """A digits network that learned a little, so that its statistics are real ones."""
    keras.utils.set_random_seed(0)
    data = pkkd_tf.data.load("digits")
    model = pkkd_tf.PKKD(pkkd_tf.models.build("digits_resnet"), method="plain", monitor_every=0)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
    model.fit(data.train(64, epochs=4), verbose=0)
    return quantization.reestimate_batch_norm(model.student, data.sample(512))


@pytest.fixture(scope="module")
def quantized(trained, images):
    """Quantized networks, not to be changed, by bits and groups of scales."""

    @functools.cache
    def make(bits, groups):
        return quantization.quantize_model(trained, images, bits, groups, train_ranges=bits == 4)

    return make


@pytest.fixture(scope="module")
def eight_bits(quantized):
    return quantized(8, 1)


def copy(model):
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    return copied


def accuracy(model):
    pixels, labels = next(iter(pkkd_tf.data.load("digits").test(360)))
    return np.mean(np.argmax(model(pixels, training=False), -1) == labels.numpy())


def relative_error(model, reference, images):
    exact = np.asarray(reference(images, training=False))
    return np.abs(model(images, training=False) - exact).mean() / np.abs(exact).mean()


def test_tensors_between_operators_are_rounded():
    resnet = pkkd_tf.models.build("digits_resnet")
    blocks = ["stage2_block1", "stage3_block1"]
    parts = ("relu1", "shortcut_norm", "relu2")
    expected = ["image", "stem_relu", "stage1_block1_relu1", "stage1_block1_relu2"]
    expected += [f"{block}_{part}" for block in blocks for part in parts] + ["pool", "head_norm"]
    assert sorted(quantization.rounded_tensors(resnet)) == sorted(expected)
    vgg = pkkd_tf.models.build("vgg_small")
    expected = ["image", *(f"conv{i}_relu" for i in range(6)), "head_dense"]
    assert quantization.rounded_tensors(vgg) == expected
    short = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="dense")])
    assert quantization.rounded_tensors(short) == ["x", "dense"]


@pytest.mark.slow
def test_with_groups_tensors_keep_eight_bits(quantized):
    tensors = [a for a in quantized(4, 3).layers if isinstance(a, quantization.FakeQuantize)]
    assert {layer.bits for layer in tensors} == {8}


def test_eight_bits_change_little(trained, eight_bits, images):
    assert relative_error(eight_bits, trained, images) < 0.03
    assert abs(accuracy(eight_bits) - accuracy(trained)) < 0.02
    assert accuracy(trained) > 0.8


def test_layers_and_weights(trained, eight_bits):
    assert eight_bits.name == trained.name
    for layer in trained.layers:
        copy = eight_bits.get_layer(layer.name)
        assert type(copy) is network.QUANTIZED.get(type(layer), type(layer))
        for ours, theirs in zip(copy.weights, layer.weights):
            np.testing.assert_array_equal(ours, theirs)
    assert isinstance(eight_bits.get_layer("stem_conv"), QuantizedConv2D)
    kinds = [layers.is_adder_filter(v) for v in eight_bits.trainable_variables]
    assert kinds == [layers.is_adder_filter(v) for v in trained.trainable_variables]


def test_every_tensor_lies_on_its_levels(eight_bits, images):
    """What a layer named in `tensor_ranges` hands on are 8-bit numbers of that range."""
    ends = quantization.tensor_ranges(eight_bits)
    names = [f"{name}_quantize" for name in ends]
    outputs = {name: eight_bits.get_layer(name).output for name in names}
    found = keras.Model(eight_bits.input, outputs)(images)
    for name, (low, high) in ends.items():
        levels = (found[f"{name}_quantize"] - low) / ((high - low) / 255)
        assert np.abs(levels - np.round(levels)).max() < 1e-3
        assert levels.numpy().min() > -0.5 and levels.numpy().max() < 255.5


@pytest.mark.parametrize("bits", [8, 2])
def test_a_tensor_has_the_range_of_its_readers(quantized, bits):
    """With one group: so nothing is rounded twice, and both readers of a tensor agree."""
    model = quantized(bits, 1)
    adders, tensors = quantization.ranges(model), quantization.tensor_ranges(model)
    for name, reader in (
        ("stem_relu", "stage1_block1_conv1"),
        ("stage1_block1_relu2", "stage2_block1_conv1"),
        ("stage1_block1_relu2", "stage2_block1_shortcut_conv"),
        ("stage2_block1_relu1", "stage2_block1_conv2"),
    ):
        assert adders[reader]["ranges"] == [tensors[name]]
        assert tensors[name][0] == 0
        assert model.get_layer(f"{name}_quantize").bits == adders[reader]["bits"] == bits
    assert model.get_layer("pool_quantize").bits == 8
    assert tensors["image"][0] < 0 and tensors["stage2_block1_shortcut_norm"][0] < 0


@pytest.mark.slow
def test_fewer_bits_err_more(trained, quantized, images):
    errors = [
        relative_error(quantized(bits, groups), trained, images)
        for bits, groups in ((8, 1), (4, 3), (2, 1))
    ]
    assert errors[0] < 0.3 * errors[1] < 0.3 * errors[2]


@pytest.mark.slow
def test_re_estimated_statistics_bring_accuracy_back(trained, quantized):
    """How many images that is depends on the processor's last bits; the logits do not."""
    model, (pixels, _) = copy(quantized(2, 1)), next(iter(pkkd_tf.data.load("digits").test(360)))
    before, error = accuracy(model), relative_error(model, trained, pixels)
    quantization.reestimate_batch_norm(model, pkkd_tf.data.load("digits").sample(512))
    assert accuracy(model) > before
    assert relative_error(model, trained, pixels) < 0.92 * error


def test_batch_norm_gets_the_mean_of_the_batches():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.9)])
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f") * 3 + 2
    quantization.reestimate_batch_norm(model, x, batch_size=10)
    norm = model.layers[0]
    np.testing.assert_allclose(norm.moving_mean, x.mean(0), rtol=1e-5)
    variances = [part.var(0) for part in np.split(x, 4)]
    np.testing.assert_allclose(norm.moving_variance, np.mean(variances, 0), rtol=1e-4)
    assert norm.momentum == 0.9
    with pytest.raises(
        ValueError, match=re.escape("at least 2 images. Received: images.shape=(1,")
    ):
        quantization.reestimate_batch_norm(model, x[:1])


@pytest.mark.slow
@pytest.mark.parametrize("bits, groups", [(8, 1), (4, 3)])
def test_ranges_describe_the_network(trained, quantized, images, bits, groups, tmp_path):
    """A layer computed from the dictionary, after saving and loading, has the same responses."""
    model = quantized(bits, groups)
    expected = np.asarray(model(images))
    model.save(tmp_path / "quantized.keras")
    model = keras.models.load_model(tmp_path / "quantized.keras")
    np.testing.assert_array_equal(model(images), expected)
    described = quantization.ranges(model)
    assert set(described) == {
        layer.name for layer in trained.layers if isinstance(layer, layers.AdderConv2D)
    }
    name = "stage2_block1_conv2"
    layer, entry = model.get_layer(name), described[name]
    x = np.asarray(keras.Model(model.input, layer.input)(images))
    w = np.asarray(layer.kernel)
    assert entry["bits"] == bits and len(entry["ranges"]) <= groups
    y = np.zeros(layer(x).shape)
    for o, group in enumerate(entry["filter_groups"]):
        low, high = entry["ranges"][group]
        scale = (high - low) / (2**bits - 1)
        filters = w[..., o : o + 1]
        clipped = np.clip(filters, low, high)
        levels = [np.round(np.clip(a, low, high) / scale).astype("f") for a in (x, clipped)]
        sums = pkkd_tf.ops.adder_conv2d(*levels, padding="SAME")
        y[..., o] = sums[..., 0] * scale - np.abs(filters - clipped).sum()
    np.testing.assert_allclose(layer(x), y, rtol=1e-4)


def test_filters_are_grouped_by_extent():
    filters = np.random.default_rng(0).uniform(-1, 1, (3, 3, 4, 40))
    filters *= np.repeat([5.0, 1.0, 20.0, 5.0], 10)
    groups = quantization.group_filters(filters, 3)
    assert groups == [1] * 10 + [0] * 10 + [2] * 10 + [1] * 10
    assert quantization.group_filters(np.ones((1, 1, 1, 5)), 4) == [0] * 5


@pytest.mark.slow
def test_quantized_networks_learn(trained, quantized):
    """From a teacher like every student; trained ranges move, and 0 stays where it was."""
    model = copy(quantized(4, 3))
    data = pkkd_tf.data.load("digits", limit_train=64, augmentation="none")
    before = quantization.ranges(model)["stage3_block1_conv1"]["ranges"]
    training = pkkd_tf.PKKD(model, trained, "kd", teacher_mode="fixed", monitor_every=0)
    training.compile(pkkd_tf.optimizers.AdderSGD(0.005))
    fitted = training.fit(data.train(64, epochs=12), epochs=12, verbose=0, steps_per_epoch=1)
    assert fitted.history["loss"][-1] < 0.9 * fitted.history["loss"][0]
    after = quantization.ranges(model)["stage3_block1_conv1"]["ranges"]
    assert all(a != b and a[0] == b[0] == 0 for a, b in zip(after, before))


@pytest.mark.slow
def test_stripped_network_is_the_plain_one(trained, quantized, images):
    plain = quantization.strip_quantization(quantized(4, 3))
    assert [layer.name for layer in plain.layers] == [layer.name for layer in trained.layers]
    assert [type(a) for a in plain.layers] == [type(a) for a in trained.layers]
    np.testing.assert_array_equal(plain(images), trained(images))


def test_other_networks(images):
    """Sequential, depthwise, channel groups, a dense classifier, `same` at stride 2."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3),
            keras.layers.ReLU(),
            layers.AdderConv2D(8, 3, 2, padding="same", groups=2),
            keras.layers.BatchNormalization(),
            layers.AdderDepthwiseConv2D(2, depth_multiplier=2),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    quantization.reestimate_batch_norm(model, images)
    quantized = quantization.quantize_model(model, images, np.uint8(8), scale_groups=np.int64(4))
    assert relative_error(quantized, model, images) < 0.03
    adder = next(layer for layer in quantized.layers if isinstance(layer, QuantizedAdderConv2D))
    assert adder.filter_groups == [0] * 8
    plain = quantization.strip_quantization(quantized)
    np.testing.assert_array_equal(plain(images), model(images))


def test_layers_that_cannot_be_quantized(images):
    inputs = keras.Input((8, 8, 1))
    separable = keras.Model(inputs, keras.layers.SeparableConv2D(3, 2)(inputs))
    message = "A layer with a weight matrix must be one of ['AdderConv2D', 'AdderDepthwiseConv2D', "
    with pytest.raises(ValueError, match=re.escape(message) + ".*type=SeparableConv2D, weights="):
        quantization.quantize_model(separable, images)
    relu = keras.layers.ReLU()
    twice = keras.Model(inputs, relu(keras.layers.Conv2D(1, 3)(relu(inputs))))
    with pytest.raises(ValueError, match="must be called once. Received: layer=.*called 2 times"):
        quantization.quantize_model(twice, images)


def test_models_that_are_no_graphs_of_layers(trained, images):
    inputs = keras.Input((8, 8, 1))
    added = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs) + inputs)
    with pytest.raises(ValueError, match=r"must consist of layers.* operations=\['add.*'\]"):
        quantization.quantize_model(added, images)
    for model in (pkkd_tf.PKKD(trained, method="plain"), keras.Sequential([keras.layers.ReLU()])):
        message = f"must be a functional or built .* Received: {type(model).__name__}, inputs="
        with pytest.raises(ValueError, match=message):
            quantization.quantize_model(model, images)
        with pytest.raises(ValueError, match=message):
            quantization.rounded_tensors(model)
    with pytest.raises(ValueError, match=r"must consist of layers.* operations=\['add.*'\]"):
        quantization.rounded_tensors(added)
    other = keras.Input((8, 8, 1))
    pair = keras.Model([inputs, other], keras.layers.Add()([inputs, other]))
    with pytest.raises(ValueError, match="must take one tensor. Received: inputs="):
        quantization.quantize_model(pair, images)
    integers = keras.Input((8, 8, 1), dtype="uint8")
    whole = keras.Model(integers, keras.layers.Rescaling(0.1)(integers))
    with pytest.raises(ValueError, match="must take real numbers.* Received: dtype=uint8"):
        quantization.quantize_model(whole, images)


def test_no_images(trained, images):
    with pytest.raises(ValueError, match=r"at least 1 image. Received: images.shape=\(0, 8, 8"):
        quantization.quantize_model(trained, images[:0])


def test_statistics_that_cannot_be_taken(images):
    inputs, norm = keras.Input((8, 8, 1)), keras.layers.BatchNormalization(name="shared")
    once = keras.Model(inputs, norm(inputs))
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"must be a positive integer. Received: .*={size}"):
            quantization.reestimate_batch_norm(once, images, batch_size=size)
    twice = keras.Model(inputs, keras.layers.Add()([norm(inputs), norm(-inputs)]))
    with pytest.raises(ValueError, match=r"called once, .* several times=\['shared'\]"):
        quantization.reestimate_batch_norm(twice, images)
    quantization.reestimate_batch_norm(once, images)
    norm.trainable = False  # it takes none
    quantization.reestimate_batch_norm(twice, images)


@pytest.mark.parametrize("place", ["inner", "inner sequential", "outer", "outer sequential"])
def test_statistics_shared_inside_of_other_networks(images, place):
    inputs, norm = keras.Input((8, 8, 1)), keras.layers.BatchNormalization(name="shared")
    twice = keras.Model(inputs, keras.layers.Add()([norm(inputs), norm(-inputs)]))
    once = keras.Sequential([inputs, norm]) if "seq" in place else keras.Model(inputs, norm(inputs))
    model = {
        "inner": lambda: keras.Model(inputs, twice(inputs)),
        "inner sequential": lambda: keras.Sequential([keras.Input((8, 8, 1)), twice]),
    }.get(place, lambda: keras.Model(inputs, keras.layers.Add()([once(inputs), once(-inputs)])))()
    with pytest.raises(ValueError, match=r"called once, .* several times=\['shared'\]"):
        quantization.reestimate_batch_norm(model, images)
    quantization.reestimate_batch_norm(once, images)


@pytest.mark.parametrize("groups", [0, 1.5])
def test_scale_groups_out_of_range(trained, images, groups):
    message = f"`scale_groups` must be a positive integer. Received: scale_groups={groups!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        quantization.quantize_model(trained, images, scale_groups=groups)


def test_counts_are_those_of_the_plain_network(trained, eight_bits):
    counts = [
        sum(layer.additions for layer in pkkd_tf.count_operations(model))
        for model in (trained, eight_bits)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("way", ["list", "add", "loaded"])
def test_sequential_networks_however_they_were_made(way, tmp_path):
    def parts():
        body = layers.AdderConv2D(4, 3, name="first"), keras.layers.ReLU(name="relu")
        deep = layers.AdderDepthwiseConv2D(3, depth_multiplier=2, name="deep")
        ends = keras.layers.GlobalAveragePooling2D(name="pool"), keras.layers.Dense(5, name="head")
        return [keras.Input((8, 8, 3), name="image"), *body, deep, *ends]

    model = keras.Sequential(parts() if way == "list" else [])
    for layer in parts() if way != "list" else []:
        model.add(layer)
    if way == "loaded":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    assert quantization.rounded_tensors(model) == ["image", "relu", "deep", "pool", "head"]
    copied = quantization.quantize_model(model, x)
    assert relative_error(copied, model, x) < 0.05
    groups = {name: r["filter_groups"] for name, r in quantization.ranges(copied).items()}
    assert groups == {"first": [0] * 4, "deep": [0] * 8}
