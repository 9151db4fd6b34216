"""The networks that come with the package: the right files, and what computes them now."""

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate

import pkkd_tf
from export.tflite import int8
from pkkd_tf import pretrained
from tests import delegate_library

# Of `pixels`, from the network whose accuracy was measured on all of CIFAR-10's test images.
LOGITS = [0.8284, -0.5484, 2.4456, 0.3287, -0.3457, -2.5520, 5.5595, -2.4837, -1.0654, 0.9028]


def pixels():
    """An image that no photograph is like."""
    values = np.arange(32 * 32 * 3).reshape(1, 32, 32, 3) * 7919 % 256
    how = pkkd_tf.data.PREPROCESSING["cifar10"]
    return ((values * how["scale"] - how["mean"]) / how["std"]).astype("float32")


def test_network_gives_what_it_gave(path):
    network = pkkd_tf.load_pretrained("resnet20_cifar10")
    np.testing.assert_allclose(network(pixels())[0], LOGITS, atol=2e-3)
    assert sum(o.multiplications for o in pkkd_tf.count_operations(network)) == 443_008


def test_a_backbone_is_what_the_top_reads():
    network = pkkd_tf.load_pretrained("resnet20_cifar10")
    features = pkkd_tf.load_pretrained("resnet20_cifar10", include_top=False)(pixels())
    assert features.shape == (1, 8, 8, 64)
    for name in ("pool", "head_conv", "head_norm", "logits"):
        features = network.get_layer(name)(features)
    np.testing.assert_allclose(features, network(pixels()), rtol=1e-5, atol=1e-5)


def test_integers_are_near():
    delegate = load_delegate(str(delegate_library.path()))
    file = pretrained.pretrained_path("resnet20_cifar10", "int8")
    network = Interpreter(file, experimental_delegates=[delegate])
    network.allocate_tensors()
    x, y = network.get_input_details()[0], network.get_output_details()[0]
    (scale, zero), (step, level) = x["quantization"], y["quantization"]
    network.set_tensor(
        x["index"], np.clip(np.rint(pixels() / scale) + zero, -128, 127).astype(np.int8)
    )
    network.invoke()
    logits = (network.get_tensor(y["index"])[0].astype(float) - level) * step
    assert np.abs(logits - LOGITS).max() < 0.15 * np.ptp(LOGITS)


@pytest.mark.parametrize("kind", delegate_library.INTERPRETERS)
def test_integers_are_the_references_bit_for_bit(kind):
    """All of ResNet-20, in both interpreters, with 1 to 4 threads, 8 images and one."""
    data = Path(pretrained.pretrained_path("resnet20_cifar10", "int8")).read_bytes()
    reference = int8.IntegerNetwork(data)
    random = np.random.default_rng(0)
    batches = [random.integers(-128, 128, (count, 32, 32, 3), np.int8) for count in (8, 1)]
    expected = [reference(batch) for batch in batches]
    assert len(np.unique(expected[0])) > 5
    for threads in (1, 2, 3, 4):
        made = delegate_library.interpreter(data, kind, num_threads=threads)
        for batch, logits in zip(batches, expected):
            np.testing.assert_array_equal(delegate_library.run(made, batch), logits)


@pytest.mark.parametrize("name, form", [("resnet50", "keras"), ("resnet20_cifar10", "onnx")])
def test_other_names(name, form):
    rule = f"form` one of ['int8', 'keras']. Received: name={name!r}, form={form!r}"
    with pytest.raises(ValueError, match=re.escape(rule)):
        pretrained.pretrained_path(name, form)
