"""Counting .tflite files: the same counts in every format, traffic by hand, clear errors."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.energy import estimate, keras_records, sources, tflite_bits, tflite_records
from export.energy.tflite_records import has_adders
from export.program import ExportError
from export.tflite import convert
from export.tflite.graph import Graph
from pkkd_tf import layers, models, quantization
from tests import adder_models

FIELDS = ("multiplications", "additions")


def totals(records):
    return tuple(sum(getattr(record, field) for record in records) for field in FIELDS)


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


@pytest.fixture(scope="module")
def digits():
    return {kind: models.build("digits_resnet", kind) for kind in ("adder", "convolution")}


@pytest.fixture(scope="module")
def files(digits, tmp_path_factory):
    """The adder network in both float formats, its convolutional twin in float32 and int8."""
    folder = tmp_path_factory.mktemp("files")
    contents = {
        "custom_op": convert(digits["adder"], "custom_op"),
        "portable": convert(digits["adder"], "portable"),
        "cnn": convert(digits["convolution"], "portable"),
        "cnn_int8": convert_int8(digits["convolution"]),
    }
    for name, data in contents.items():
        (folder / f"{name}.tflite").write_bytes(data)
    for kind, model in digits.items():
        model.save(folder / f"{kind}.keras")
    return folder


def convert_int8(model):
    """TFLite's own int8, from random images."""
    images = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[None]] for x in images.astype("float32"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["custom_op", "portable", "cnn", "cnn_int8"])
def test_digits_counts_as_in_keras(digits, files, name):
    data = (files / f"{name}.tflite").read_bytes()
    kind = "convolution" if name.startswith("cnn") else "adder"
    assert totals(tflite_records(data)) == totals(keras_records(digits[kind]))
    assert tflite_bits(data) == (8 if name == "cnn_int8" else 32)
    assert has_adders(data) == (kind == "adder")


@pytest.mark.slow
def test_fused_adders_move_what_keras_counts(digits, files):
    """All activations alike; of the first convolution's norm TFLite keeps one number a channel."""
    operators = tflite_records((files / "custom_op.tflite").read_bytes())
    own = keras_records(digits["adder"])
    moved = [sum(sum(r.reads) + sum(r.writes) for r in records) for records in (operators, own)]
    assert moved[0] == moved[1] > 0
    assert sum(r.weights for r in own) - sum(r.weights for r in operators) == 8 + 10


@pytest.mark.slow
def test_resnet20_counts_as_published():
    model = models.build("resnet20")
    energy = estimate(tflite_records(convert(model, "custom_op")))
    assert totals([energy.total.record]) == totals(keras_records(model)) == (443_008, 81_183_360)
    assert round(energy.total.compute, 2) == 74.70


@pytest.mark.parametrize(
    "layer",
    [
        layers.AdderConv2D(6, 3, groups=2, padding="same"),
        layers.AdderConv2D(6, 3, dilation_rate=2),
        layers.AdderDepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
        layers.AdderDense(7),
    ],
    ids=["groups", "dilation", "depthwise", "dense on pixels"],
)
@pytest.mark.parametrize("format", ["portable", "custom_op"])
def test_every_adder_layer_counts_alike(layer, format):
    """Also where the first axis of a tensor is images times pixels."""
    layer = type(layer).from_config(layer.get_config())
    model = sequential((9, 9, 4), keras.layers.Conv2D(4, 1), layer)
    records = tflite_records(convert(model, format))
    assert totals(records) == totals(keras_records(model))
    assert records[-1].writes == (np.prod(model.output_shape[1:]),)


def test_builtin_layers_count_alike():
    model = sequential(
        (8, 8, 3),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(5, bias_initializer="ones"),
    )
    depthwise, pool, dense = tflite_records(convert(model, "portable"))
    assert (depthwise.type, dense.type) == ("DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    assert totals([depthwise]) == (36 * 6 * 9, 36 * 6 * 9) and totals([dense]) == (270, 270)
    assert (pool.reads, pool.writes, pool.weights) == ((216,), (54,), 0)
    assert (depthwise.reads, depthwise.writes, depthwise.weights) == ((192,), (216,), 9 * 6 + 6)
    assert (dense.reads, dense.writes, dense.weights) == ((54,), (5,), 5 * 54 + 5)


def test_depthwise_products_of_one_pixel_count_unless_they_are_a_normalization():
    """Of int8, and of as many numbers as there are in the image."""
    one = sequential((6, 6, 3), keras.layers.DepthwiseConv2D(1, depthwise_initializer="normal"))
    two = sequential((6, 6, 3), keras.layers.DepthwiseConv2D(1, depth_multiplier=2))
    assert totals(tflite_records(convert(one, "portable"))) == (108, 108)
    assert totals(tflite_records(convert_int8(two))) == (216, 216)
    assert totals(tflite_records(convert_int8(one))) == (0, 0)


def test_differences_that_others_read_too_are_no_adder():
    x = keras.Input((6, 6, 3))
    h = keras.layers.Conv2D(4, 1, bias_initializer="ones")(x)
    difference = h - keras.layers.MaxPooling2D(2, 1, "same")(h)
    distance = keras.ops.sum(keras.ops.abs(difference), -1, keepdims=True)
    model = keras.Model(x, keras.layers.Concatenate()([distance, difference]))
    data = convert(model, "portable")
    assert {"SUB", "ABS", "SUM"} <= {record.type for record in tflite_records(data)}
    assert totals(tflite_records(data)) == totals(keras_records(model)) and not has_adders(data)


def test_traffic_of_builtin_adders_by_hand():
    """One layer of 2 filters with 4 terms on 3 x 3 pixels: the differences go through memory."""
    x = sequential((3, 3, 4), keras.layers.Conv2D(4, 1), layers.AdderConv2D(2, 1))
    records = {record.type: record for record in tflite_records(convert(x, "portable"))}
    spread, terms = 9 * 2 * 4, 9 * 4
    assert (records["SUB"].reads, records["SUB"].writes) == ((terms,), (spread,))
    assert records["SUB"].weights == 8 and records["SUB"].additions == spread
    assert (records["ABS"].reads, records["ABS"].writes) == ((spread,), (spread,))
    assert records["ABS"].additions == 0
    assert (records["SUM"].reads, records["SUM"].writes) == ((spread,), (18,))
    assert records["SUM"].additions == spread and records["SUM"].weights == 0


def test_int8_adders_count_their_wider_constants():
    """An int32 multiplier and an int64 bias an output, beside int8 filters."""
    data = adder_models.adder_model((1, 5, 5, 8), np.ones((3, 3, 8, 6), np.float32))
    graph = Graph(adder_models.to_bytes(data))
    (operator,) = graph.operators
    x, filters = operator.inputs
    graph.set_type(x, np.int8)
    graph.set_type(operator.outputs[0], np.int8)
    operator.inputs = [
        x,
        graph.add_constant(np.ones((3, 3, 8, 6), np.int8), "filters"),
        graph.add_constant(np.ones(6, np.int32), "multiplier"),
        graph.add_constant(np.ones(6, np.int64), "bias"),
    ]
    graph.subgraph.tensors[operator.outputs[0]].shape = np.array([1, 5, 5, 6], np.int32)
    (record,) = tflite_records(graph.to_bytes())
    assert totals([record]) == (0, 2 * 25 * 6 * 72)
    assert record.weights == 9 * 8 * 6 + 6 * 4 + 6 * 8
    assert (record.reads, record.writes) == ((200,), (150,))


def test_batch_in_the_file_does_not_count():
    model = adder_models.adder_model((7, 5, 5, 8), np.ones((1, 1, 8, 6), np.float32))
    model.subgraphs[0].tensors[-1].shape = np.array([7, 5, 5, 6], np.int32)
    (record,) = tflite_records(adder_models.to_bytes(model))
    assert totals([record]) == (0, 2 * 25 * 6 * 8) and record.reads == (200,)


def test_files_that_cannot_be_counted():
    hybrid = adder_models.adder_model((1, 5, 5, 8), np.ones((1, 1, 8, 6), np.float32))
    hybrid.subgraphs[0].tensors[0].type = 9  # int8
    message = r"compute in one type, float32 or int8. Received: .*\['float32', 'int8'\]"
    with pytest.raises(ExportError, match=message):
        tflite_records(adder_models.to_bytes(hybrid))
    only_pool = convert(sequential((8, 8, 3), keras.layers.MaxPooling2D(2)), "portable")
    with pytest.raises(ExportError, match="Received: inputs and filters of no operator"):
        tflite_bits(only_pool)
    any_size = sequential((None, None, 3), keras.layers.Conv2D(4, 3))
    with pytest.raises(ExportError, match=r"known image size only: .*shape=\(-1, -1, -1, 3\)"):
        tflite_records(convert(any_size, "portable"))
    volume = sequential((4, 4, 4, 3), keras.layers.Conv3D(2, 3), keras.layers.Flatten())
    flat = keras.Sequential([volume, keras.layers.Dense(3)])
    with pytest.raises(ExportError, match=r"one without filters .* operator=\d+ CONV_3D"):
        tflite_records(convert(flat, "portable"))


def dense_on_pixels(x):
    h = keras.layers.Conv2D(8, 3, padding="same")(x)
    gates = keras.layers.GlobalAveragePooling2D(keepdims=True)(h)
    h = keras.layers.Multiply()([h, keras.layers.Dense(8, activation="sigmoid")(gates)])
    return layers.AdderConv2D(4, 3)(keras.layers.Dense(5)(h))


def dense_on_rows(x):
    return keras.layers.Dense(8)(keras.layers.Reshape((16, 12))(keras.layers.Conv2D(3, 1)(x)))


def adders_alone(x):
    h = keras.layers.Flatten()(keras.layers.ReLU()(layers.AdderConv2D(4, 3)(x)))
    return keras.layers.BatchNormalization()(layers.AdderDense(3)(h))


def selected(x):
    h = keras.layers.ReLU(threshold=0.5)(keras.layers.Conv2D(4, 3)(x))
    return keras.layers.Conv2D(2, 1)(keras.layers.Activation("selu")(h))


@pytest.mark.parametrize("build", (dense_on_pixels, dense_on_rows, adders_alone, selected))
@pytest.mark.parametrize("format", ("portable", pytest.param("custom_op", marks=pytest.mark.slow)))
def test_files_count_as_their_networks(build, format):
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, build(x))
    assert totals(tflite_records(convert(model, format))) == totals(keras_records(model))


def test_products_of_rows_in_files_of_others():
    """As Keras itself makes them: axes of unknown sizes before the product and after."""
    x = keras.Input((6, 6, 3))
    model = keras.Model(x, layers.AdderConv2D(4, 3)(keras.layers.Dense(5)(x)))
    plain = tf.lite.TFLiteConverter.from_keras_model(
        keras.Model(x, keras.layers.Conv2D(4, 3)(model.layers[1](x)))
    ).convert()
    records = tflite_records(plain)
    product = next(r for r in records if r.type == "FULLY_CONNECTED")
    assert (product.multiplications, product.writes) == (36 * 3 * 5, (36 * 5,))
    assert totals(records)[0] == 36 * 3 * 5 + 16 * 4 * 45


@pytest.mark.parametrize("padding", ("same", "valid"))
def test_transposed_convolutions_count_as_in_the_network(padding):
    transposed = keras.layers.Conv2DTranspose(5, 3, 2, padding, bias_initializer="ones")
    model = sequential((6, 6, 3), keras.layers.Conv2D(4, 1), transposed)
    records = tflite_records(convert(model, "portable"))
    assert totals(records) == totals(keras_records(model))
    (record,) = [r for r in records if r.type == "TRANSPOSE_CONV"]
    assert record.reads == (6 * 6 * 4,) and record.weights == 3 * 3 * 4 * 5 + 5


@pytest.mark.parametrize("kind", (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
@pytest.mark.parametrize("padding", ("same", "valid"))
def test_dilated_convolutions_of_the_converter_count_as_in_the_network(kind, padding):
    """As three operators, of which the second has more and smaller images."""
    filters = {"filters": 5} if kind is keras.layers.Conv2D else {}
    layer = kind(kernel_size=3, dilation_rate=3, padding=padding, **filters)
    model = sequential((16, 16, 4), layer)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for data in (converter.convert(), convert_int8(model)):
        assert Graph(data).named("SPACE_TO_BATCH_ND")
        assert totals(tflite_records(data)) == totals(keras_records(model))


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.tflite").write_text("no model")
    for name in ("none.tflite", "text.tflite"):
        with pytest.raises(ExportError, match="--compare must be an existing .tflite file. Rec"):
            sources.read(str(tmp_path / name), "--compare")
    with pytest.raises(ExportError, match="--model must be a .keras or .tflite file. Received: 'x"):
        sources.read("x.h5")


def energy(*arguments):
    command = [sys.executable, "-m", "export.energy", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_damaged_files_are_refused(tmp_path):
    """Cut off anywhere, or nothing behind the first bytes."""
    model = sequential((6, 6, 3), keras.layers.Conv2D(4, 1), layers.AdderConv2D(5, 3))
    whole, path = convert(model, "custom_op"), tmp_path / "bad.tflite"
    contents = [whole[: len(whole) * part // 9] for part in (1, 3, 5, 8)]
    for content in (*contents, b"\0\0\0\0TFL3", whole[:8] + b"junk" * 99):
        path.write_bytes(content)
        with pytest.raises(ExportError, match="--model must be a whole .tflite file. Received: "):
            sources.read(str(path))


def test_networks_of_two_inputs_are_refused(tmp_path):
    a, b = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    path = tmp_path / "two.tflite"
    path.write_bytes(converted(keras.Model([a, b], keras.layers.Conv2D(2, 1)(a + b))))
    with pytest.raises(ExportError, match="must map one batch of images. Received: 2 inputs"):
        sources.read(str(path))


def converted(model):
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside another"])
@pytest.mark.parametrize("groups", [1, 2])
def test_roundings_are_simulated_and_count_nothing(tmp_path, groups, inside):
    """Fine-tuning in rounded numbers changes no figure."""
    padding, adder = keras.layers.ZeroPadding2D(1), layers.AdderConv2D(6, 3, name="adder")
    flat = keras.layers.Flatten(), keras.layers.Dense(3)
    model = sequential((8, 8, 1), keras.layers.Conv2D(4, 3), padding, adder, *flat)
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype("float32")
    rounded = quantization.quantize_model(model, images, bits=4, scale_groups=groups)
    assert rounded.get_layer("adder").range.count == groups
    (sequential((8, 8, 1), rounded) if inside else rounded).save(tmp_path / "x.keras")
    read, plain = sources.read(str(tmp_path / "x.keras")), keras_records(model)
    assert read.kind == "ANN" and totals(read.records) == totals(plain)
    assert numbers(read.records) == numbers(plain)


def numbers(records):
    """What layers move, of those that move something."""
    moved = [(r.weights, r.reads, r.writes) for r in records]
    return [numbers for numbers in moved if any(numbers)]


@pytest.mark.slow
def test_the_program_takes_formats_from_the_files(files, tmp_path):
    done = energy(
        f"--model={files / 'custom_op.tflite'}",
        f"--compare={files / 'cnn_int8.tflite'}",
        f"--output={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "CNN cnn_int8, int8, one image" in done.stdout
    assert "ANN custom_op, fp32, one image" in done.stdout
    assert re.search(r"ratio +int8 / fp32 +0\.12 x", done.stdout)
    assert "an ADD that is an operator of its own moves three tensors" in done.stdout
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"energy.json", "energy.png"}


@pytest.mark.slow
def test_the_program_refuses_other_bits(files):
    done = energy(f"--model={files / 'cnn_int8.tflite'}", "--bits=32,8")
    assert done.returncode == 1 and done.stdout == ""
    message = (
        r"error: --bits must be what a .tflite file's tensors have.* bits=\[32, 8\], '.*' has 8\n"
    )
    assert re.fullmatch(message, done.stderr.splitlines(True)[-1])


@pytest.mark.slow
def test_a_keras_file_beside_a_tflite_file_is_counted_in_its_format(files):
    done = energy(f"--model={files / 'cnn_int8.tflite'}", f"--compare={files / 'adder.keras'}")
    assert done.returncode == 0, done.stderr
    assert "ANN adder, int8, one image" in done.stdout and "fp32" not in done.stdout


@pytest.mark.slow
def test_an_inference_runs(files):
    for name in ("cnn", "cnn_int8"):
        sources.read(str(files / f"{name}.tflite")).inference()()
