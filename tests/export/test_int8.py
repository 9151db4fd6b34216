"""int8 end to end: integers that equal the reference's, small errors, clear refusals."""

import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from export.program import ExportError
from export.tflite import Network, convert, export_tflite, int8, verdict
from export.tflite.graph import Graph, get_options
from export.tflite.int8 import reference
from export.tflite.int8.adder import fixed_point
from export.tflite.int8.observation import Observation
from export.tflite.int8.scales import Scale
from pkkd_tf import models
from pkkd_tf.layers import AdderConv2D, AdderDense, AdderDepthwiseConv2D
from pkkd_tf.quantization import quantize_model, reestimate_batch_norm
from tests import delegate_library
from tests.networks import calibrated, images, mostly_slow, sequential

README = pathlib.Path(__file__).parents[2] / "README.md"
FLOAT_OUTPUTS = 0.06  # of their root mean square, what rounding may change


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return calibrated(models.build("digits_resnet"))


@pytest.fixture(scope="module")
def data(network):
    return int8.make(network, images(network, 64), delegate_library.path())[0]


def quantized(model, **options):
    return int8.make(model, images(model, 32), delegate_library.path(), **options)


def integers(data, batch):
    tensor = Graph(data).subgraph.tensors[0].quantization
    return np.clip(np.rint(batch / tensor.scale[0]) + tensor.zeroPoint[0], -128, 127).astype("i1")


def assert_equals_reference(data, batch):
    batch = integers(data, batch)
    output = Network(data, delegate_library.path())(batch)
    assert output.dtype == np.int8 and len(np.unique(output)) > 3
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(batch))


@pytest.mark.parametrize("kind", delegate_library.INTERPRETERS)
@pytest.mark.parametrize("threads", (1, 2, 3, 4))
def test_every_interpreter_gives_the_reference_bit_for_bit(network, data, kind, threads):
    made = delegate_library.interpreter(data, kind, num_threads=threads)
    reference = int8.IntegerNetwork(data)
    for count in (8, 1):
        batch = integers(data, images(network, count, seed=count))
        output = delegate_library.run(made, batch)
        np.testing.assert_array_equal(output, reference(batch))
        assert len(np.unique(output)) > 5


def test_all_is_int8(network, data):
    graph = Graph(data)
    names = [graph.name(operator) for operator in graph.operators]
    adders = sum(isinstance(layer, AdderConv2D) for layer in network.layers)
    assert names.count("AdderConv2D") == adders
    assert not {"QUANTIZE", "DEQUANTIZE", "PAD", "ADD", "MUL", "RELU"} & set(names)
    for operator in graph.operators:
        if graph.name(operator) in ("CONV_2D", "AdderConv2D", "MEAN"):
            assert graph.dtype(operator.inputs[0]) == graph.dtype(operator.outputs[0]) == np.int8
            assert graph.name(operator) == "MEAN" or graph.dtype(operator.inputs[1]) == np.int8
    floats = [t for t in range(len(graph.subgraph.tensors)) if graph.dtype(t) == np.float32]
    assert not floats


def test_activations_and_filters_share_a_scale(data):
    graph = Graph(data)
    for operator in graph.named("AdderConv2D"):
        x, f = (graph.subgraph.tensors[t].quantization for t in operator.inputs[:2])
        assert (x.scale, x.zeroPoint) == (f.scale, f.zeroPoint)
        assert get_options(operator)["zero"] == x.zeroPoint[0] == -128  # after a ReLU


@pytest.mark.slow
def test_close_to_the_network(network):
    report = quantized(network)[1]
    assert report["difference"] < FLOAT_OUTPUTS and report["agreement"] > 0.9 and report["alive"]


@pytest.mark.slow
def test_fewer_bits_use_fewer_values_and_err_more(network):
    batch, differences = images(network, 8, seed=5), []
    for bits in (8, 6, 4):
        data, report = quantized(network, bits=bits)
        assert_equals_reference(data, batch)
        differences.append(report["difference"])
        probe = int8.observation.Probe(data, delegate_library.path())(batch)
        graph = Graph(data)
        for operator in graph.named("AdderConv2D"):
            for values in (probe[operator.inputs[0]], graph.constant(operator.inputs[1])):
                assert values.min() >= -128 and values.max() <= -128 + 2**bits - 1
    assert differences == sorted(differences) and differences[-1] > 2 * differences[0]


NETWORKS = {
    "vgg": ((8, 8, 3), [AdderConv2D(8, 3, padding="same"), keras.layers.MaxPooling2D()]),
    "strides": ((9, 8, 4), [AdderConv2D(6, 3, strides=2, padding="valid")]),
    "dilation": ((9, 9, 4), [AdderConv2D(6, 3, dilation_rate=2, padding="same")]),
    "groups": ((7, 7, 6), [AdderConv2D(9, 3, groups=3, padding="same")]),
    "depthwise": ((7, 7, 6), [AdderDepthwiseConv2D(3, depth_multiplier=2, padding="same")]),
    "bias": ((5, 5, 4), [AdderConv2D(8, 1, use_bias=True, bias_initializer="random_normal")]),
    "dense": ((4, 4, 3), [keras.layers.Flatten(), AdderDense(9)]),
}


@pytest.mark.parametrize("name", mostly_slow(NETWORKS, "vgg", "depthwise", "groups"))
def test_layers(name):
    """Inputs of both signs, and inputs that a ReLU has cut off."""
    keras.utils.set_random_seed(1)
    shape, layers = NETWORKS[name]
    layers = [type(layer).from_config(layer.get_config()) for layer in layers]
    norm, relu = keras.layers.BatchNormalization(momentum=0.5), keras.layers.ReLU()
    last = (
        []
        if name == "dense"
        else [AdderConv2D(5, 1), keras.layers.BatchNormalization(momentum=0.5)]
    )
    model = calibrated(sequential(shape, *layers, norm, relu, *last, keras.layers.Flatten()))
    data, report = quantized(model)
    assert report["difference"] < FLOAT_OUTPUTS and report["alive"]
    assert_equals_reference(data, images(model, 3))


@pytest.mark.parametrize("end", ["layer", "activation"])
def test_softmax(end):
    """In 256ths, as TFLite's quantization specification demands."""
    keras.utils.set_random_seed(1)
    ends = {
        "layer": [keras.layers.Dense(5), keras.layers.Softmax()],
        "activation": [keras.layers.Dense(5, activation="softmax")],
    }
    norm = keras.layers.BatchNormalization(momentum=0.5)
    mean = keras.layers.GlobalAveragePooling2D()
    model = calibrated(sequential((6, 6, 3), AdderConv2D(8, 3), norm, mean, *ends[end]))
    data, report = quantized(model)
    network, batch = Network(data, delegate_library.path()), images(model, 64)
    assert (
        network.outputs["logits"]["quantization"] == (1 / 256, -128) and report["agreement"] > 0.9
    )
    expected = int8.IntegerNetwork(data)(integers(data, batch)).astype(int)
    actual = network(integers(data, batch)).astype(int)
    assert np.abs(actual - expected).max() <= 1 and np.ptp(actual) > 20
    assert np.abs(network(batch) - np.asarray(model(batch))).max() < 0.03


@pytest.mark.slow
def test_means_are_those_of_the_float_network(network):
    """The mean errors of rounding are taken away: what is left has no direction."""
    batch = images(network, 64)
    data = quantized(network, bits=4)[0]
    exact, rounded = network(batch), Network(data, delegate_library.path())(batch)
    error = rounded - np.asarray(exact)
    assert np.abs(error.mean(0)).mean() < 0.3 * np.abs(error).mean()


@pytest.mark.slow
def test_a_fine_tuned_network_keeps_its_ranges(network):
    tuned = quantize_model(network, images(network, 32))
    name = next(layer.name for layer in tuned.layers if isinstance(layer, AdderConv2D))
    tuned.get_layer(name).range.assign([(0.0, 3.0)])
    data = int8.make(tuned, images(network, 32), delegate_library.path())[0]
    graph = Graph(data)
    steps = [
        graph.subgraph.tensors[operator.inputs[0]].quantization.scale[0]
        for operator in graph.named("AdderConv2D")
    ]
    assert any(np.isclose(step, 3.0 / 255) for step in steps)


@pytest.mark.slow
def test_a_fine_tuned_network_is_the_simulated_one(network):
    """Batch norm estimated with rounding knows its mean errors; they are not taken away twice."""
    batch = images(network, 64)
    tuned = quantize_model(network, batch, bits=4)
    reestimate_batch_norm(tuned, batch)
    data, report = int8.make(tuned, batch, delegate_library.path())
    assert report["difference"] < 0.1
    assert report["difference"] < quantized(network, bits=4)[1]["difference"] / 2


@pytest.mark.slow
def test_a_network_of_convolutions_by_tflite_itself():
    model = calibrated(models.build("digits_resnet", "convolution"))
    data, report = quantized(model)
    graph = Graph(data)
    assert "AdderConv2D" not in [graph.name(operator) for operator in graph.operators]
    assert report["agreement"] > 0.9
    assert Network(data).input["dtype"] == np.int8


def test_fixed_point_integers_are_the_nearest():
    random = np.random.default_rng(0)
    for scale in (1e-6, 1e-3, 1.0, 50.0):
        multiplier, bias = -scale * random.random(16), scale * random.normal(size=16) * 1000
        m, b, r, shift = fixed_point(multiplier, bias, 0.7 * scale)
        assert m.dtype == np.int32 and b.dtype == np.int64 and 1 <= shift <= 46
        np.testing.assert_allclose(m / 2.0**shift, multiplier, atol=2.0**-shift)
        np.testing.assert_allclose((b - 2.0 ** (shift - 1)) / 2.0**shift, bias, rtol=1e-9)
        assert abs(r / 2.0**shift - 0.7 * scale) <= 2.0**-shift
    with pytest.raises(ExportError, match="Received: largest factor=3e\\+09"):
        fixed_point(np.array([3e9]), np.zeros(1), 0.0)


def test_scales_hold_zero_and_their_ends():
    for low, high, bits in ((0.0, 5.1, 8), (-1.0, 3.0, 8), (-2.0, 0.0, 4)):
        scale = Scale.of_range(low, high, bits)
        assert scale.quantized(np.zeros(1)) == scale.zero
        np.testing.assert_allclose(scale.range, (low, high), atol=scale.step)
        assert scale.high == -128 + 2**bits - 1


def test_of_what_adder_layers_read_only_what_is_used_is_kept(network):
    data, batch = convert(network, "custom_op"), images(network, 70)
    tensors = [int(o.inputs[0]) for o in Graph(data).named("AdderConv2D")]
    wanted = {t: lambda x, n=n: n for n, t in enumerate(dict.fromkeys(tensors), 1)}
    observed = Observation(data, batch, delegate_library.path(), wanted)
    assert {t: len(x) for t, x in observed.samples.items()} == {t: f(0) for t, f in wanted.items()}


def test_calibration_images(tmp_path):
    digits = int8.load_images((8, 8, 1), None, "digits", 40)
    assert digits.shape == (40, 8, 8, 1) and digits.dtype == np.float32
    np.save(tmp_path / "x.npy", digits.astype(np.float64))
    loaded = int8.load_images((None, None, 1), tmp_path / "x.npy", None, 7)
    np.testing.assert_array_equal(loaded, digits[:7])
    with pytest.raises(ExportError, match="the shape of the network's"):
        int8.load_images((8, 8, 3), tmp_path / "x.npy", None, 7)
    np.save(tmp_path / "bytes.npy", np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(ExportError, match="preprocessed as in the training"):
        int8.load_images((8, 8, 1), tmp_path / "bytes.npy", None, 7)
    whole, bad = (tmp_path / "x.npy").read_bytes(), tmp_path / "bad.npy"
    for content in (b"", b"no array", whole[:30], whole[:40] + b"\\('" + whole[43:], whole[:-1]):
        bad.write_bytes(content)
        with pytest.raises(ExportError, match="readable .npy"):
            int8.load_images((8, 8, 1), bad, None, 7)
    np.savez(tmp_path / "two.npz", digits)
    (tmp_path / "two.npz").rename(bad)
    with pytest.raises(ExportError, match="one array. Received: .*, an archive"):
        int8.load_images((8, 8, 1), bad, None, 7)
    np.save(tmp_path / "number.npy", np.float32(1))
    with pytest.raises(ExportError, match=r"the shape of the network's.* images \(\), the network"):
        int8.load_images((8, 8, 1), tmp_path / "number.npy", None, 7)
    with pytest.raises(ExportError, match="--dataset goes with a folder"):
        int8.load_images((8, 8, 1), tmp_path / "x.npy", "digits", 7)
    with pytest.raises(ExportError, match="int8 needs calibration images"):
        int8.load_images((8, 8, 1), None, None, 7)


@pytest.mark.slow
def test_refusals(network, tmp_path):
    file, target = tmp_path / "x.keras", tmp_path / "x.tflite"
    network.save(file)
    with pytest.raises(ExportError, match="int8 needs calibration images"):
        export_tflite(file, target, "int8", delegate_library.path())
    with pytest.raises(ValueError, match="`bits` must be from 2 to 8"):
        quantized(network, bits=9)
    with pytest.raises(ValueError, match="Received: format='int4'"):
        export_tflite(file, target, "int4")
    quantize_model(network, images(network, 8)).save(file)
    with pytest.raises(ExportError, match="exported as --format=int8"):
        export_tflite(file, target, "custom_op", delegate_library.path())
    model = sequential((4, 4, 2), AdderConv2D(3, 3), keras.layers.Activation("softplus"))
    with pytest.raises(ExportError, match="Received: EXP, LOG"):
        quantized(model)
    assert not target.exists()


@pytest.mark.slow
def test_wrong_integers_are_not_written(network, tmp_path, monkeypatch):
    actual = reference.run_adder
    monkeypatch.setattr(reference, "run_adder", lambda *inputs: actual(*inputs) + 1)
    network.save(tmp_path / "x.keras")
    arguments = tmp_path / "x.tflite", "int8", delegate_library.path(), False, images(network, 8)
    with pytest.raises(ExportError, match="bit for bit; it was not written"):
        export_tflite(tmp_path / "x.keras", *arguments)
    assert not (tmp_path / "x.tflite").exists()


OUTPUT = {"difference": 0.02, "agreement": 0.97, "alive": True}


@pytest.mark.parametrize(
    "found, of_use",
    [
        ({}, True),
        ({"difference": 1.3}, False),
        ({"agreement": 0.31}, False),
        ({"agreement": 0.31, "alive": False}, True),
        ({"difference": 1.3, "alive": False}, False),
    ],
)
def test_a_file_of_no_use_is_warned_of(found, of_use):
    report = {**OUTPUT, **found}
    sentence = verdict.warning({"outputs": {"logits": report}})
    assert (sentence is None) == of_use
    if not of_use:
        difference, agreement = report["difference"], report["agreement"]
        expected = f"by {difference:.1%} and give the same class for {agreement:.1%}"
        assert sentence.startswith("warning: the file is of no use") and expected in sentence


@pytest.mark.slow
def test_a_file_of_no_use_is_written_with_a_warning(tmp_path):
    """Four values are too few for adder layers whose filters are those of their initialization."""
    keras.utils.set_random_seed(0)
    norms = [keras.layers.BatchNormalization(momentum=0.5) for _ in range(2)]
    adders = [AdderConv2D(8, 3, padding="same") for _ in range(2)]
    layers = [adders[0], norms[0], keras.layers.ReLU(), adders[1], norms[1]]
    model = calibrated(sequential((6, 6, 3), *layers, keras.layers.Flatten()))
    model.save(tmp_path / "x.keras")
    np.save(tmp_path / "images.npy", images(model, 16))
    delegate_library.path()
    command = [sys.executable, "-m", "export.tflite", f"--model={tmp_path / 'x.keras'}"]
    command += [f"--output={tmp_path / 'x.tflite'}", "--format=int8", "--bits=2"]
    command += [f"--calibration_data={tmp_path / 'images.npy'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "x.tflite").is_file()
    assert "warning: the file is of no use" in done.stderr


@pytest.mark.slow
def test_command(network, tmp_path):
    network.save(tmp_path / "x.keras")
    delegate_library.path()
    command = [sys.executable, "-m", "export.tflite", f"--model={tmp_path / 'x.keras'}"]
    command += [f"--output={tmp_path / 'x.tflite'}", "--format=int8", "--dataset=digits"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of 256 calibration images get the same class" in done.stdout
    assert "warning: the file" not in done.stderr
    data = (tmp_path / "x.tflite").read_bytes()
    assert len(data) < 0.4 * len(convert(network, "custom_op"))
    assert_equals_reference(data, images(network, 2))


def test_the_lines_for_a_device(data, tmp_path):
    """The README's, isolated from this package, with one file of it."""
    lines = re.search(r"```python\n(import numpy.*?)```", README.read_text(), re.DOTALL)[1]
    (tmp_path / "student_int8.tflite").write_bytes(data)
    shutil.copy(delegate_library.path(), tmp_path / "libadder_delegate.so")
    command = [sys.executable, "-I", "-c", lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    zeros = np.zeros((1, 8, 8, 1), np.float32)
    expected = int8.IntegerNetwork(data)(integers(data, zeros)).argmax()
    assert int(done.stdout.split()[-1]) == expected
