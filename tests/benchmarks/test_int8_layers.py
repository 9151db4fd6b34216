import numpy as np
import pytest

from benchmarks import int8_layers, layers
from export.tflite.graph import Graph, get_options
from tests import delegate_library, numpy_adder_int8

SMALL = layers.Layer("small", 1, 6, 8, 8, 3)


@pytest.fixture(scope="module")
def files():
    delegate_library.path()  # builds it where it is missing
    return int8_layers.models(SMALL)


def test_every_model_runs_and_is_of_its_kind(files):
    made = int8_layers.interpreters(files, SMALL)
    for name, network in made.items():
        network.invoke()
        kind = np.int8 if name.startswith("int8") else np.float32
        (output,) = network.outputs.values()
        assert network.input["dtype"] == kind and output["dtype"] == kind


def test_the_int8_adder_computes_its_formula(files):
    graph = Graph(files[int8_layers.RESIDUAL])
    (operator,) = graph.operators
    f, multiplier, bias = (graph.constant(tensor) for tensor in operator.inputs[1:4])
    options = get_options(operator)
    network = int8_layers.interpreters(files, SMALL)[int8_layers.RESIDUAL]
    x = np.random.default_rng(1).integers(-128, 128, (1, 6, 6, 8), np.int8)
    names = ("zero", "shift", "low", "high", "residual_multiplier")
    chosen = {name: options[name] for name in names}
    expected = numpy_adder_int8.forward(
        x, f, multiplier, bias, residual=x, padding="SAME", **chosen
    )
    np.testing.assert_array_equal(network(x), expected)
    assert len(np.unique(expected)) > 20  # of use as a measure: nothing is saturated


def test_table(files):
    rows = int8_layers.measured([SMALL], turns=1)
    (row,) = rows
    assert set(row["seconds"]) == set(files) and all(0 < s < 1 for s in row["seconds"].values())
    machine = {"device": "one", "kernels": "avx2", "litert": "2", "tensorflow": "3", "date": "4"}
    text = int8_layers.table(machine, 1, rows)
    ratio = row["seconds"]["int8 adder"] / row["seconds"]["int8 convolution"]
    assert "| 6x6, 8 -> 8, 3x3 | " in text and text.endswith(f" | {ratio:.2f} |\n")
