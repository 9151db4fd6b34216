"""Energy by the published formula and constants, and the memory model counted by hand."""

import json
import re

import keras
import pytest

from export.energy import (
    HOROWITZ,
    LayerRecord,
    energy_of_counts,
    estimate,
    keras_records,
    sources,
    tflite_records,
)
from export.energy.constants import as_json, read_constants
from export.program import ExportError
from export.tflite import convert
from pkkd_tf import layers, models

# Multiplications and additions of ResNet-20, in millions: published (PKKD's table) and counted.
PUBLISHED = {"convolution": (41.17, 41.17), "adder": (0.45, 81.89)}
FIELDS = ("multiplications", "additions")
COUNTED = {"convolution": (40.813184, 40.813184), "adder": (0.443008, 81.18336)}


@pytest.fixture(scope="module")
def resnet20():
    return {kind: keras_records(models.build("resnet20", kind)) for kind in PUBLISHED}


@pytest.mark.parametrize(
    "bits, kind, published, counted",
    [
        (32, "convolution", 189.4, 187.74),
        (32, "adder", 75.4, 74.70),
        (8, "convolution", 9.47, 9.39),
        (8, "adder", 2.55, 2.52),
    ],
)
def test_resnet20(resnet20, bits, kind, published, counted):
    """The published figures from the published counts; a little less from the network's own."""
    millions = [1e6 * count for count in PUBLISHED[kind]]
    assert energy_of_counts(*millions, bits=bits) == pytest.approx(published, abs=0.05)
    assert round(energy_of_counts(*millions, bits=8), 2) in (9.47, 2.55)
    total = estimate(resnet20[kind], bits).total
    counts = (total.record.multiplications, total.record.additions)
    assert counts == tuple(round(1e6 * count) for count in COUNTED[kind])
    assert round(total.compute, 2) == counted


def test_a_shipped_network_is_read_by_its_name():
    read = sources.read("resnet20_cifar10")
    counts = [sum(getattr(r, n) for r in read.records) for n in FIELDS]
    assert read.kind == "ANN" and counts == [round(1e6 * c) for c in COUNTED["adder"]]


def test_published_ratios_and_ceilings():
    for bits, ratio, ceiling in ((32, 2.51, 2.56), (8, 3.72, 3.83)):
        cnn, ann = (energy_of_counts(*PUBLISHED[k], bits=bits) for k in ("convolution", "adder"))
        assert round(cnn / ann, 2) == ratio
        assert round(energy_of_counts(1, 1, bits) / energy_of_counts(0, 2, bits), 2) == ceiling


@pytest.mark.parametrize("bits, microjoules", [(32, 3.7 + 1.8), (16, 1.1 + 0.8), (8, 0.2 + 0.06)])
def test_energy_of_counts(bits, microjoules):
    assert energy_of_counts(1e6, 2e6, bits) == pytest.approx(microjoules)


def test_memory_model_by_hand():
    """Filters by the size of all together, activations each by its own size."""
    records = [
        LayerRecord("a", "Conv2D", 10, 10, weights=1500, reads=(100,), writes=(8000,)),
        LayerRecord("b", "AdderConv2D", 0, 20, weights=700, reads=(8000, 300_000), writes=(7,)),
    ]
    result = estimate(records, bits=32)
    first, second = result.layers
    assert result.filter_level == "32 KB cache"  # 8,800 bytes
    assert first.by_level == dict(zip(result.total.by_level, (400, 6000 + 32_000, 0, 0)))
    assert second.by_level == dict(zip(result.total.by_level, (28, 2800 + 32_000, 0, 1_200_000)))
    assert (first.filters, first.activations) == (6000, 32_400)
    assert first.memory == pytest.approx(1e-6 * (50 * 10 + (750 + 4000) * 20))
    # 28 bytes take four accesses of eight.
    picojoules = 4 * 10 + (350 + 4000) * 20 + 150_000 * 1300
    assert second.memory == pytest.approx(1e-6 * picojoules)
    assert second.memory_upper == pytest.approx(1e-6 * (picojoules + 150_000 * 1300))
    assert second.with_memory == second.compute + second.memory
    assert result.total.memory == pytest.approx(first.memory + second.memory)
    assert result.total.filters == 8800 and result.total.activations == 32_400 + 1_232_028


def test_filters_are_read_from_what_holds_them_in_their_width():
    records = [LayerRecord("a", "Dense", weights=9000)]
    levels = {bits: estimate(records, bits).filter_level for bits in (32, 8)}
    assert levels == {32: "1 MB cache", 8: "32 KB cache"}


def test_a_part_of_an_access_is_a_whole_one():
    """28 bytes take four accesses of eight."""
    total = estimate([LayerRecord("a", "Dense", writes=(7,))]).total
    assert total.memory == pytest.approx(4 * 1e-5)


def test_width_scales_traffic(resnet20):
    totals = {bits: estimate(resnet20["adder"], bits).total for bits in (8, 16, 32)}
    for bits, total in totals.items():
        assert total.filters == bits // 8 * totals[8].filters
        assert total.activations == bits // 8 * totals[8].activations
        assert sum(total.by_level.values()) == total.filters + total.activations


def test_adders_move_what_convolutions_move(resnet20):
    for cnn, ann in zip(*resnet20.values(), strict=True):
        assert (cnn.name, cnn.weights, cnn.reads, cnn.writes) == (
            ann.name,
            ann.weights,
            ann.reads,
            ann.writes,
        )


def test_weights_of_resnet20(resnet20):
    """Everything but running statistics, which turn scale and offset into others."""
    model = models.resnet20()
    assert sum(r.weights for r in resnet20["adder"]) == sum(
        w.shape.num_elements() for w in model.trainable_weights
    )


def test_traffic_of_a_block():
    """Normalization, ReLU and padding move nothing, an addition reads its other operand."""
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.ZeroPadding2D(1)(inputs)
    x = layers.AdderConv2D(6, 3, strides=2, name="adder")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    shortcut = keras.layers.Conv2D(6, 1, strides=2, name="shortcut")(inputs)
    x = keras.layers.ReLU(name="relu")(keras.layers.Add(name="add")([x, shortcut]))
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(x)))
    traffic = {r.name: (r.weights, r.reads, r.writes) for r in keras_records(model)}
    assert traffic["adder"] == (9 * 4 * 6, (256,), (96,))
    assert traffic["norm"] == (12, (), ())
    assert traffic["shortcut"] == (4 * 6 + 6, (256,), (96,))
    assert traffic["add"] == (0, (96,), ())
    assert traffic["relu"] == (0, (), ())
    assert traffic["pool"] == (0, (96,), (24,))
    assert traffic["dense"] == (24 * 3 + 3, (24,), (3,))


def test_a_separable_convolution_moves_what_its_two_do():
    x = keras.Input((8, 8, 4))
    separable = keras.layers.SeparableConv2D(6, 3, use_bias=False)(x)
    spatial = keras.layers.DepthwiseConv2D(3, use_bias=False)(x)
    two = keras.layers.Conv2D(6, 1, use_bias=False)(spatial)
    (one,), both = (keras_records(keras.Model(x, y))[1:] for y in (separable, two))
    assert one.reads == (256, 144) == both[0].reads + both[1].reads
    assert one.writes == (144, 216) == both[0].writes + both[1].writes
    assert one.weights == sum(record.weights for record in both)


def test_a_product_reads_its_smaller_operand():
    x, gates = keras.Input((8, 8, 4)), keras.Input((1, 1, 4))
    for operands in ([x, gates], [gates, x]):
        model = keras.Model([x, gates], keras.layers.Multiply(name="product")(operands))
        (record,) = [r for r in keras_records(model) if r.name == "product"]
        assert record.reads == (4,)


def test_nested_models_keep_their_traffic():
    body = keras.Sequential([keras.Input((8, 8, 3)), layers.AdderConv2D(4, 3, name="inner")])
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(body(inputs)))
    record = next(r for r in keras_records(model) if r.name.endswith("/inner"))
    assert (record.reads, record.writes) == ((192,), (144,))


def test_a_layer_of_two_nested_models_costs_its_calls():
    layer = layers.AdderConv2D(4, 3, padding="same")
    image = keras.Input((6, 6, 4))
    h = image
    for _ in range(2):
        x = keras.Input((6, 6, 4))
        h = keras.Model(x, layer(x))(h)
    model = keras.Model(image, h)
    (record,) = [r for r in keras_records(model) if r.type == "AdderConv2D"]
    assert record.additions == 2 * (2 * 36 * 4 * 36) and record.reads == (144, 144)
    records = tflite_records(convert(model, "custom_op"))
    assert sum(r.additions for r in records) == record.additions
    assert sum(r.weights for r in records) == record.weights == 2 * layer.count_params()


def test_own_constants(tmp_path, resnet20):
    path = tmp_path / "constants.json"
    content = {
        "source": "a chip",
        "operations": {"int8": {"bits": 8, "multiply": 2.0, "add": 1.0}},
        "memory": {
            "access_bits": 32,
            "levels": [
                {"name": "buffer", "bytes": 10, "picojoules": 3},
                {"name": "outside", "bytes": None, "picojoules": 5, "picojoules_upper": 7},
            ],
        },
    }
    path.write_text(json.dumps(content))
    constants = read_constants(path)
    assert constants.operations["fp32"] == HOROWITZ.operations["fp32"]
    record = LayerRecord("a", "Dense", 4, 2, weights=12, reads=(8,), writes=())
    total = estimate([record], 8, constants).total
    assert total.compute == pytest.approx(1e-6 * (4 * 2 + 2))
    assert total.memory == pytest.approx(1e-6 * (3 * 5 + 2 * 3))
    assert total.memory_upper == pytest.approx(1e-6 * (3 * 7 + 2 * 3))
    path.write_text(json.dumps(as_json(constants)))
    assert read_constants(path) == constants
    path.write_text(json.dumps(as_json(HOROWITZ)))
    assert read_constants(path) == HOROWITZ


LEVEL = {"name": "all", "bytes": None, "picojoules": 1}


@pytest.mark.parametrize(
    "content, message",
    [
        ("no json", "JSONDecodeError"),
        ("[1]", "TypeError|ValueError"),
        ({"operations": {}}, "'source'"),
        ({"source": "x"}, r"keys \['source'\]"),
        ({"source": "x", "memories": {}}, "memories"),
        ({"source": "x", "operations": {"int8": {"bits": 8, "multiply": 1}}}, "'add'"),
        (
            {"source": "x", "operations": {"int8": {"bits": 8, "multiply": 1, "add": -1}}},
            r"int8: \(8, 1, -1\) must be positive",
        ),
        ({"source": "x", "memory": {"access_bits": 64, "levels": []}}, "must grow and end with"),
        (
            {"source": "x", "memory": {"access_bits": 64, "levels": [{**LEVEL, "bytes": 9}]}},
            "must grow and end with",
        ),
        (
            {"source": "x", "memory": {"access_bits": 64, "levels": [LEVEL, LEVEL]}},
            "must grow and end with",
        ),
    ],
)
def test_constants_that_are_none(tmp_path, content, message):
    path = tmp_path / "constants.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    text = f"--constants must be a JSON file .* Received: constants='{re.escape(str(path))}', .*"
    with pytest.raises(ExportError, match=f"{text}({message})"):
        read_constants(path)


def test_missing_constants_and_other_widths(tmp_path):
    with pytest.raises(ExportError, match="Received: constants='.*', FileNotFoundError"):
        read_constants(tmp_path / "none.json")
    message = r"--bits must be out of \(32, 16, 8\). Received: bits=4"
    with pytest.raises(ExportError, match=message):
        energy_of_counts(1, 1, bits=4)
