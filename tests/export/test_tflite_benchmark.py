"""Timing models: figures that belong together, the real tool where it is, clear errors."""

import re
import subprocess
import sys

import numpy as np
import pytest

from export import benchmark
from export.program import ExportError
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
    small, large = benchmark.measure(
        graphs, str(delegate_library.path()), num_runs=30, warmup_runs=3
    )
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
        benchmark.measure(
            graphs[1:], str(delegate_library.path()), num_runs=9, input_shape=(n, 64, 64, 8)
        )[0]
        for n in (1, 8)
    )
    assert np.median(eight.runs) > 3 * np.median(one.runs)


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


def test_errors(graphs, tmp_path):
    with pytest.raises(ExportError, match="an existing .tflite file. Received: graph='none'"):
        benchmark.measure(["none"])
    with pytest.raises(ExportError, match="needs its delegate. Received: delegate=None, .*unreso"):
        benchmark.measure(graphs[:1])
    (tmp_path / "text.tflite").write_text("this is not a model at all")
    with pytest.raises(ExportError, match="one that the interpreter takes"):
        benchmark.measure([str(tmp_path / "text.tflite")])


@pytest.mark.parametrize("text", ["flags", "flags:", ":1", "a:b:c"])
def test_options_must_be_pairs(text):
    with pytest.raises(ExportError, match="must be name:value;name:value. Received: external_del"):
        benchmark.parse_options(text)
    assert benchmark.parse_options("a:1;b:2") == {"a": "1", "b": "2"}
