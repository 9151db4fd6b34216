"""Timing models: figures that belong together, the real tool where it is, clear errors."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from export import benchmark, latency, operator_profile
from export.program import ExportError
from export.tflite import Network, convert
from export.tflite.converter import convert_int8
from export.tflite.graph import Graph
from tests import delegate_library
from tests.adder_models import adder_model, to_bytes


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A small adder layer, and one with 64 times the work."""
    folder = tmp_path_factory.mktemp("graphs")
    for name, size in (("small", 8), ("large", 64)):
        model = adder_model((1, size, size, 8), np.ones((3, 3, 8, 16), np.float32))
        (folder / f"{name}.tflite").write_bytes(to_bytes(model))
    return [str(folder / "small.tflite"), str(folder / "large.tflite")]


def test_figures(graphs):
    small, large = latency.measure(graphs, str(delegate_library.path()), num_runs=30, warmup_runs=3)
    assert len(small.runs) == len(large.runs) == 30
    assert np.median(large.runs) > 5 * np.median(small.runs)
    assert small.init > 0 and small.first > 0 and small.warmup > 0 and large.memory >= 0
    lines = "\n".join(large.lines())
    figures = dict(re.findall(r"(\w+)=([\d.]+)", lines))
    order = [float(figures[name]) for name in ("min", "median", "p95", "max")]
    assert figures["count"] == "30" and order == sorted(order)
    average = re.search(r"Init: \d+, First inference: \d+, .*Inference \(avg\): ([\d.]+)", lines)
    assert float(average[1]) == float(figures["avg"])


def test_an_input_of_another_shape(graphs):
    one, eight = (
        latency.measure(
            graphs[1:], str(delegate_library.path()), num_runs=9, input_shape=(n, 64, 64, 8)
        )[0]
        for n in (1, 8)
    )
    assert np.median(eight.runs) > 3 * np.median(one.runs)


@pytest.mark.slow
def test_command_line_compares(graphs):
    command = [sys.executable, "-m", "export.benchmark", f"--graph={graphs[1]}"]
    command += [f"--compare={graphs[0]}", "--num_runs=20", "--external_delegate_options=flags:1"]
    command += [f"--external_delegate_path={delegate_library.path()}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Inference timings in us: Init: ") == 2
    assert done.stdout.count("Peak memory footprint growth (MB): ") == 2
    ratio = re.search(r"takes ([\d.]+) times as long as \[(.*)\]", done.stdout)
    assert float(ratio[1]) > 5 and ratio[2] == graphs[0]


TOOL = """#!/bin/sh
echo "$@"
echo "INFO: EXTERNAL delegate created."
exit {status}
"""


def test_the_real_tool_is_given_the_flags(graphs, tmp_path):
    """A script in place of the tool, which no package holds: only the call is tested."""
    tool = tmp_path / "benchmark_model"
    tool.write_text(TOOL.format(status=0))
    tool.chmod(0o755)
    report = benchmark.run_tool(graphs[0], "x.so", 2, 20, 3, "flags:1", str(tool))
    for flag in ("num_threads=2", "num_runs=20", "warmup_runs=3", "min_secs=0"):
        assert f"--{flag}" in report
    assert "/x.so --external_delegate_options=flags:1" in report
    tool.write_text(TOOL.format(status=1))
    with pytest.raises(ExportError, match="must run the model.* Received: exit status 1 from"):
        benchmark.run_tool(graphs[0], None, 1, 1, 1, None, str(tool))
    tool.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(ExportError, match="with the delegate if there is one. Received: exit st"):
        benchmark.run_tool(graphs[0], "x.so", 1, 1, 1, None, str(tool))


@pytest.mark.slow
def test_the_tool_on_the_path_measures(graphs, tmp_path):
    """The program itself finds it, and hands on every flag."""
    tool = tmp_path / "benchmark_model"
    tool.write_text(TOOL.format(status=0))
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "export.benchmark", f"--graph={graphs[0]}", "--num_runs=7"]
    command += ["--num_threads=2", "--warmup_runs=3", "--enable_op_profiling"]
    command += [f"--external_delegate_path={delegate_library.path()}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"--graph={graphs[0]} --num_threads=2 --num_runs=7 --warmup_runs=3 --min_secs=0 "
        "--warmup_min_secs=0 --enable_op_profiling=true "
        f"--external_delegate_path={delegate_library.path()}",
        "INFO: EXTERNAL delegate created.",
    ]


@pytest.fixture(scope="module")
def int8_graph(tmp_path_factory):
    """A convolution that takes nearly all of the time, and small operators behind it."""
    layers = [keras.layers.Conv2D(32, 5), keras.layers.MaxPooling2D(4), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((32, 32, 8)), *layers, keras.layers.Dense(4)])
    images = np.random.default_rng(0).standard_normal((8, 32, 32, 8)).astype("float32")
    path = tmp_path_factory.mktemp("int8") / "int8.tflite"
    path.write_bytes(convert_int8(model, images))
    return path


def test_int8_models(int8_graph):
    """Inputs over all of int8, and times like any other model's."""
    network = Network(int8_graph.read_bytes())
    images = latency.random_input(network, (64, 32, 32, 8))
    assert images.dtype == np.int8 and (images.min(), images.max()) == (-128, 127)
    (timing,) = latency.measure([str(int8_graph)], num_runs=5, warmup_runs=1)
    assert timing.runs.min() > 0
    assert latency.ratios(timing, timing) == (1.0, 1.0)


def test_profile_of_a_model(int8_graph):
    """Every operator once, the convolution before all, the sum near the whole model's time."""
    data = int8_graph.read_bytes()
    images = np.zeros((1, 32, 32, 8), np.int8)
    operators, whole = operator_profile.profile(data, images, num_runs=15)
    assert [o.index for o in operators] == list(range(len(operators))) and len(whole) == 15
    least = {operator.type: operator.runs.min() for operator in operators}
    assert {"CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"} <= set(least)
    assert least["CONV_2D"] == max(least.values())
    assert sum(o.runs.min() for o in operators) > 0.5 * whole.min()
    lines = operator_profile.text(operators, whole).splitlines()
    assert lines[2].startswith("0 ") and len(lines) == 2 + len(operators) + 2 + len(least) + 1
    shares = [float(line.split()[4]) for line in lines[2 : 2 + len(operators)]]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))


def test_profile_runs_operators_on_their_own_numbers():
    """Alone, an operator computes what it computes inside of the model."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu")])
    model.add(keras.layers.AveragePooling2D(2))
    data = convert(model, "portable")
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    arguments = (None, 1, None)
    values = operator_profile._values(data, images, arguments)
    graph = Graph(data)
    last = operator_profile._alone(graph, graph.operators[1], values, arguments)
    last.invoke()
    (output,) = last.outputs.values()
    assert np.array_equal(last.interpreter.get_tensor(output["index"]), Network(data)(images))


@pytest.mark.slow
def test_command_line_profiles_custom_operators(graphs):
    command = [sys.executable, "-m", "export.benchmark", f"--graph={graphs[0]}", "--num_runs=5"]
    command += [f"--external_delegate_path={delegate_library.path()}", "--enable_op_profiling"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 AdderConv2D [\d.]+ [\d.]+ 100\.0 y$", done.stdout, re.MULTILINE)
    assert re.search(r"^AdderConv2D 1 [\d.]+ 100\.0$", done.stdout, re.MULTILINE)


def test_errors(graphs, tmp_path):
    with pytest.raises(ExportError, match="an existing .tflite file. Received: graph='none'"):
        latency.measure(["none"])
    with pytest.raises(ExportError, match="needs its delegate. Received: delegate=None, .*unreso"):
        latency.measure(graphs[:1])
    (tmp_path / "text.tflite").write_text("this is not a model at all")
    with pytest.raises(ExportError, match="one that the interpreter takes"):
        latency.measure([str(tmp_path / "text.tflite")])


@pytest.mark.parametrize("text", ["flags", "flags:", ":1", "a:b:c"])
def test_options_must_be_pairs(text):
    with pytest.raises(ExportError, match="must be name:value;name:value. Received: external_del"):
        benchmark.parse_options(text)
    assert benchmark.parse_options("a:1;b:2") == {"a": "1", "b": "2"}


def test_collecting_garbage_is_not_timed(graphs, monkeypatch):
    """It empties the caches: the run after it took ten times the others'."""
    calls = []
    invoke = latency.Network.invoke
    monkeypatch.setattr(latency.Network, "invoke", lambda n: (calls.append("run"), invoke(n)))
    monkeypatch.setattr(latency.gc, "collect", lambda: calls.append("collected"))
    timing = latency.measure(graphs[:1], str(delegate_library.path()), 1, 3, 2)[0]
    assert calls == ["run"] * 2 + ["collected"] + ["run"] * 4
    assert len(timing.runs) == 3 and latency.gc.isenabled()


@pytest.mark.parametrize("sizes", [["a", "b"], ["0", "8"], ["-1"], [""]])
def test_shapes_that_are_none(sizes):
    rule = f"--input_layer_shape must be whole numbers above 0. Received: {','.join(sizes)}"
    with pytest.raises(ExportError, match=re.escape(rule)):
        benchmark.parse_shape(sizes)
