"""The adder layers beside Keras' own: arguments, shapes, formats, types, files."""

import inspect
import re

import keras
import numpy as np
import numpy_adder
import pytest
import tensorflow as tf

from pkkd_tf import layers

PAIRS = [
    (layers.AdderConv2D, keras.layers.Conv2D, "kernel_initializer"),
    (layers.AdderDepthwiseConv2D, keras.layers.DepthwiseConv2D, "depthwise_initializer"),
    (layers.AdderDense, keras.layers.Dense, "kernel_initializer"),
]
# Constructor, arguments, input shape without the batch.
CASES = [
    (layers.AdderConv2D, {"filters": 6, "kernel_size": 3}, (7, 8, 4)),
    (layers.AdderConv2D, {"filters": 6, "kernel_size": (3, 2), "strides": 2}, (7, 8, 4)),
    (
        layers.AdderConv2D,
        {"filters": 6, "kernel_size": 3, "padding": "same", "groups": 2},
        (7, 8, 4),
    ),
    (layers.AdderConv2D, {"filters": 6, "kernel_size": 3, "dilation_rate": 2}, (7, 8, 4)),
    (layers.AdderDepthwiseConv2D, {"kernel_size": 3, "padding": "same"}, (7, 8, 4)),
    (
        layers.AdderDepthwiseConv2D,
        {"kernel_size": 2, "depth_multiplier": 3, "strides": 2},
        (7, 8, 4),
    ),
    (layers.AdderDense, {"units": 5}, (4,)),
    (layers.AdderDense, {"units": 5}, (3, 2, 4)),
]
CONV_CASES = [case for case in CASES if case[0] is not layers.AdderDense]


def parameters(type_):
    return dict(list(inspect.signature(type_.__init__).parameters.items())[1:])


def array(value):
    return keras.ops.convert_to_numpy(value)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("adder, stock, initializer", PAIRS)
def test_signature_is_keras_with_one_argument_more(adder, stock, initializer):
    ours, theirs = parameters(adder), parameters(stock)
    assert list(ours) == [*list(theirs)[:-1], "input_gradient", "kwargs"]
    differing = {n for n in theirs if ours[n].default != theirs[n].default}
    assert differing == {"use_bias", initializer}
    assert ours["use_bias"].default is False and ours["input_gradient"].default == "clipped"


@pytest.mark.parametrize(
    "make_layer",
    [
        lambda: layers.AdderConv2D(500, 3),
        lambda: layers.AdderDepthwiseConv2D(3, depth_multiplier=500),
        lambda: layers.AdderDense(4000),
    ],
    ids=["AdderConv2D", "AdderDepthwiseConv2D", "AdderDense"],
)
def test_filters_start_as_standard_normal(make_layer):
    layer = make_layer()  # here, not above: the seed is fixed by now
    layer.build((None, 7, 8, 4))
    kernel = array(layer.kernel)
    # At least 16000 filters: mean and spread are known within 0.02 at 2.5 standard errors.
    assert abs(kernel.mean()) < 0.02 and abs(kernel.std() - 1) < 0.02
    assert layer.bias is None


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_output_shape_is_computed(path, type_, arguments, shape):
    layer = type_(**arguments)
    y = layer(numbers((2, *shape)))
    assert y.shape == layer.compute_output_shape((2, *shape))
    symbolic = type_(**arguments)(keras.Input(shape))
    assert symbolic.shape == (None, *y.shape[1:])


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_stock_layer_has_the_same_shapes(type_, arguments, shape):
    stock = {adder: stock for adder, stock, _ in PAIRS}[type_]
    adder, stock = type_(**arguments), stock(**arguments, use_bias=False)
    assert adder(numbers((2, *shape))).shape == stock(numbers((2, *shape))).shape
    assert adder.kernel.shape == stock.kernel.shape


@pytest.mark.parametrize("type_, arguments, shape", CONV_CASES)
def test_response_equals_the_formula(path, type_, arguments, shape):
    layer, x = type_(**arguments), numbers((2, *shape))
    y = layer(x)
    kernel, groups = array(layer.kernel), getattr(layer, "groups", 1)
    if type_ is layers.AdderDepthwiseConv2D:
        groups = shape[-1]
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    window = layer.strides, layer.padding.upper(), layer.dilation_rate, groups
    np.testing.assert_allclose(y, numpy_adder.forward(x, kernel, *window), rtol=1e-5)


def test_dense_response_equals_the_formula(path):
    layer, x = layers.AdderDense(5), numbers((3, 2, 4))
    y = layer(x)
    expected = -np.abs(x[..., None] - array(layer.kernel)).sum(-2)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_dense_gradients_equal_the_formula(path, rank):
    layer = layers.AdderDense(5, input_gradient="sign")
    x = tf.constant(numbers((2, 3, 2, 4)[-rank:]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        dy = tf.constant(numbers(y.shape, 1))
        loss = tf.reduce_sum(y * dy)
    dx, dw = tape.gradient(loss, [x, layer.kernel.value])
    difference = x.numpy()[..., None] - array(layer.kernel)
    upstream = dy.numpy()[..., None, :]
    np.testing.assert_allclose(dx, (np.sign(-difference) * upstream).sum(-1), rtol=1e-5, atol=1e-5)
    axes = tuple(range(rank - 1))
    np.testing.assert_allclose(dw, (difference * upstream).sum(axes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("type_, arguments, shape", CONV_CASES)
def test_both_data_formats_are_equal(path, type_, arguments, shape):
    options = {**arguments, "use_bias": True, "activation": "tanh"}
    last = type_(**options, data_format="channels_last")
    first = type_(**options, data_format="channels_first")
    x = numbers((2, *shape))
    last.build(x.shape)
    last.bias.assign(numbers(last.bias.shape) + 20)
    first.build((2, shape[2], *shape[:2]))
    first.set_weights(last.get_weights())
    y = np.transpose(first(np.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))
    np.testing.assert_allclose(y, last(x), rtol=1e-6)


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_bias_and_activation(type_, arguments, shape):
    plain, finished = type_(**arguments), type_(**arguments, use_bias=True, activation="relu")
    x = numbers((2, *shape))
    y = array(plain(x))
    finished.build(x.shape)
    bias = numbers(finished.bias.shape) - y.mean()
    finished.set_weights([*plain.get_weights(), bias])
    expected = np.maximum(y + bias, 0)
    assert (expected > 0).any() and (expected == 0).any()
    np.testing.assert_allclose(finished(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("type_, arguments, shape", CASES)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_type_policies(path, type_, arguments, shape, policy):
    check_policy(type_, arguments, shape, policy)


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_float64(type_, arguments, shape):
    check_policy(type_, arguments, shape, "float64")  # no compiled operation has it


def check_policy(type_, arguments, shape, policy):
    layer = type_(**arguments, dtype=policy)
    layer.build((2, *shape))
    reference = type_(**arguments)
    x = numbers((2, *shape))
    reference.build(x.shape)
    reference.set_weights([w.astype("float32") for w in layer.get_weights()])
    y = layer(x)
    assert y.dtype == layer.compute_dtype and layer.kernel.dtype == layer.variable_dtype
    rtol = {"bfloat16": 0.02, "float16": 0.003, "float64": 1e-5}[layer.compute_dtype]
    np.testing.assert_allclose(array(y).astype("float32"), reference(x), rtol=rtol)


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_serialization(type_, arguments, shape, tmp_path):
    options = {**arguments, "input_gradient": "sign", "use_bias": True, "name": "one"}
    inputs = keras.Input(shape)
    model = keras.Model(inputs, type_(**options, bias_regularizer="l2")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    layer = loaded.get_layer("one")
    assert type(layer) is type_ and layer.get_config() == model.get_layer("one").get_config()
    assert layer.input_gradient == "sign"
    x = numbers((2, *shape))
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_only_the_filters_are_marked(type_, arguments, shape, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, type_(**arguments, use_bias=True)(inputs))
    copy = keras.models.clone_model(model)
    model.save(tmp_path / "model.keras")
    for m in (model, copy, keras.models.load_model(tmp_path / "model.keras")):
        assert [layers.is_adder_filter(v) for v in m.trainable_variables] == [True, False]


def test_stock_filters_are_not_marked():
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    assert not layers.is_adder_filter(dense.kernel)


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_input_gradient_mode_is_used(path, type_, arguments, shape):
    x = tf.constant(numbers((2, *shape)) * 0.1)

    def gradient(mode):
        layer = type_(**arguments, input_gradient=mode)
        layer.build(x.shape)
        layer.set_weights([np.full(layer.kernel.shape, 0.25, "float32")])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x))
        return tape.gradient(y, x).numpy()

    clipped, sign = gradient("clipped"), gradient("sign")
    touched = clipped != 0
    assert touched.any() and not np.allclose(clipped, sign)
    np.testing.assert_array_equal(sign[touched], np.round(sign[touched]))


@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_unknown_input_gradient(type_, arguments, shape):
    message = "`input_gradient` must be one of ('clipped', 'sign'). Received: input_gradient='soft'"
    with pytest.raises(ValueError, match=re.escape(message)):
        type_(**arguments, input_gradient="soft")


def test_keras_own_checks_remain():
    with pytest.raises(ValueError, match="evenly divisible by the number of groups"):
        layers.AdderConv2D(5, 3, groups=2)
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
        layer = layers.AdderConv2D(5, 3)
        layer.build((None, 8, 8, 4))
        layer(numbers((1, 8, 8, 3)))


def test_dense_refuses_quantization():
    message = "AdderDense cannot use Keras' quantized matrix products"
    with pytest.raises(ValueError, match=f"{message}.* Received: mode='int8', config="):
        layer = layers.AdderDense(3)
        layer.build((None, 4))
        layer.quantize("int8")
    with pytest.raises(ValueError, match=message):
        layers.AdderDense(3, quantization_config=keras.quantizers.Int8QuantizationConfig())


@pytest.mark.parametrize("type_, arguments, shape", CONV_CASES)
def test_numpy_integers_are_taken_and_saved(type_, arguments, shape, tmp_path):
    def in_numpy(value):
        if isinstance(value, str):
            return value
        return tuple(map(np.int64, value)) if isinstance(value, tuple) else np.int64(value)

    names = ("kernel_size", "strides", "dilation_rate")
    pairs = {k: (v, v) for k, v in arguments.items() if k in names and isinstance(v, int)}
    own = {name: in_numpy(value) for name, value in {**arguments, **pairs}.items()}
    model = keras.Sequential([keras.Input(shape), type_(**own)])
    stock = keras.Sequential([keras.Input(shape), type_(**arguments)])
    stock.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    x = numbers((2, *shape))
    np.testing.assert_array_equal(model(x), stock(x))
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), stock(x))


QUANTIZED = {
    "int8": keras.dtype_policies.QuantizedDTypePolicy("int8", "float32"),
    "float8": keras.dtype_policies.QuantizedFloat8DTypePolicy("float8", "mixed_bfloat16"),
}


@pytest.mark.parametrize("type_, arguments, shape", CASES)
@pytest.mark.parametrize("mode", QUANTIZED)
def test_keras_quantization_is_refused(type_, arguments, shape, mode):
    rule = f"{type_.__name__} cannot use Keras' quantized .* Received: mode='{mode}', config="
    with pytest.raises(ValueError, match=f"{rule}None"):
        type_(**arguments, dtype=QUANTIZED[mode])
    late, built = type_(**arguments), type_(**arguments)
    late.dtype_policy = QUANTIZED[mode]
    with pytest.raises(ValueError, match=f"{rule}None"):
        late(numbers((2, *shape)))
    built(numbers((2, *shape)))
    with pytest.raises(ValueError, match=rule):
        built.quantize(mode)
    with pytest.raises(ValueError, match=rule):
        built.dtype_policy = QUANTIZED[mode]


def test_a_quantized_model_keeps_its_adder_layers_and_says_so():
    stack = [keras.Input((8,)), keras.layers.Dense(6), layers.AdderDense(5), keras.layers.Dense(3)]
    model = keras.Sequential(stack)
    inner = keras.Model(model.inputs, model.layers[1].output)
    first = keras.Model(model.inputs, model.layers[0].output)
    with pytest.warns(UserWarning, match="AdderDense cannot use .* `pkkd_tf.quantization"):
        model.quantize("int8")
    assert [x.quantization_mode for x in model.layers] == ["int8", None, "int8"]
    x = numbers((4, 8))
    expected = -np.abs(array(first(x))[..., None] - array(model.layers[1].kernel)).sum(-2)
    np.testing.assert_allclose(inner(x), expected, rtol=1e-5)


def test_dense_takes_what_the_stock_layer_takes(path):
    """Whole numbers, and sparse tensors."""
    whole = np.array([[1, 0, -3, 0], [0, 0, 2, 5]])
    x = keras.Input((4,), sparse=True)
    layer = layers.AdderDense(3)
    model = keras.Model(x, layer(x))
    expected = layer(whole.astype("float32"))
    np.testing.assert_array_equal(layer(whole), expected)
    sparse = tf.sparse.from_dense(whole.astype("float32"))
    np.testing.assert_array_equal(model(sparse), expected)
    np.testing.assert_array_equal(layer(sparse), expected)


def test_dense_low_rank_adaptation_moves_the_effective_weights():
    layer = layers.AdderDense(5, lora_rank=2)
    x = numbers((3, 4))
    before = array(layer(x))
    assert len(layer.trainable_variables) == 2
    layer.lora_kernel_b.assign(numbers(layer.lora_kernel_b.shape))
    expected = -np.abs(x[..., None] - array(layer.kernel)).sum(-2)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    assert not np.allclose(expected, before)
