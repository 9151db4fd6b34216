r"""Times `.tflite` models, with the flags and the figures of TFLite's own benchmark tool.

    python -m export.benchmark --graph=r20.tflite
    python -m export.benchmark --graph=r20_custom.tflite \
        --external_delegate_path=custom_ops/tflite/libadder_delegate.so --compare=cnn.tflite

Where the tool `benchmark_model` is on the PATH, it measures; else the interpreter installed here
does, from Python (about a microsecond a run). With `--compare` models take turns, run by run, in
this process, so that whatever else the machine does falls on both alike; the second of two runs
in each turn counts, which finds the caches as a model alone does; ratios are given of the medians,
and of the minima, which a busy machine disturbs less. With several threads compare runs of
one model each: one model's threads wait awake, on the other's processors. The delegate is given to
every model; one without its operator ignores it. Inputs are random; those of int8 models cover all
of int8.

`--enable_op_profiling` adds the time of every operator: the tool's own profile, or from Python each
operator run by itself (see `export.operator_profile`).
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from export import operator_profile, program
from export.latency import measure, random_input, ratios
from export.program import ExportError
from export.tflite.interpreters import Network

TOOL = "benchmark_model"


def parse_shape(sizes: Sequence[str] | None) -> list[int] | None:
    """Numbers of `--input_layer_shape`; None if there are none."""
    if not sizes:
        return None
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise ExportError(
            f"--input_layer_shape must be whole numbers above 0. Received: {','.join(sizes)}"
        )
    return [int(size) for size in sizes]


def run_tool(
    graph: str,
    delegate: str | None,
    num_threads: int,
    num_runs: int,
    warmup_runs: int,
    options: str | None,
    tool: str = TOOL,
    profile: bool = False,
) -> str:
    """Runs TFLite's own benchmark tool; returns what it printed.

    Raises:
        ExportError: it failed, or went on without the delegate, which it does not report itself.
    """
    command = [tool, f"--graph={graph}", f"--num_threads={num_threads}"]
    command += [f"--num_runs={num_runs}", f"--warmup_runs={warmup_runs}"]
    command += ["--min_secs=0", "--warmup_min_secs=0"]
    command += ["--enable_op_profiling=true"] if profile else []
    if delegate:
        command.append(f"--external_delegate_path={Path(delegate).absolute()}")
        command += [f"--external_delegate_options={options}"] if options else []
    done = subprocess.run(command, capture_output=True, text=True)
    report = done.stdout + done.stderr
    if done.returncode or (delegate and "EXTERNAL delegate created" not in report):
        raise ExportError(
            f"{TOOL} must run the model, with the delegate if there is one. "
            f"Received: exit status {done.returncode} from {' '.join(command)}\n{report.strip()}"
        )
    return report


def parse_options(text: str | None) -> dict[str, str]:
    """`"k:v;k:v"` as a dict.

    Raises:
        ExportError: a part is not a name and a value with one colon between them.
    """
    parts = [part.split(":") for part in (text or "").split(";") if part]
    if any(len(part) != 2 or not all(part) for part in parts):
        raise ExportError(
            "--external_delegate_options must be name:value;name:value. "
            f"Received: external_delegate_options='{text}'"
        )
    return dict(parts)


def main() -> None:
    """Reads the flags and prints the figures."""
    values = flags.FLAGS
    options = parse_options(values.external_delegate_options)
    shape = parse_shape(values.input_layer_shape)
    graphs = [values.graph, *values.compare]
    delegate = values.external_delegate_path
    numbers = (values.num_threads, values.num_runs, values.warmup_runs)
    if len(graphs) == 1 and shape is None and shutil.which(TOOL):
        texts, profile = values.external_delegate_options, values.enable_op_profiling
        print(run_tool(graphs[0], delegate, *numbers, texts, profile=profile), end="")
        return
    timings = measure(graphs, delegate, *numbers, options, shape)
    for timing in timings:
        print("\n".join(timing.lines()))
        if values.enable_op_profiling:
            print(_profile(timing.graph, delegate, values.num_threads, options, shape))
    for other in timings[1:]:
        median, least = ratios(timings[0], other)
        print(
            f"Ratio: [{timings[0].graph}] takes {median:.2f} times as long as [{other.graph}] "
            f"(medians; {least:.2f} by the minima)"
        )


def _profile(
    graph: str,
    delegate: str | None,
    num_threads: int,
    options: dict[str, str] | None,
    shape: Sequence[int] | None,
) -> str:
    data = Path(graph).read_bytes()
    images = random_input(Network(data, delegate, num_threads, options), shape)
    arguments = (delegate, num_threads, flags.FLAGS.num_runs, options)
    return operator_profile.text(*operator_profile.profile(data, images, *arguments))


if __name__ == "__main__":
    flags.DEFINE_string("graph", None, "A .tflite file.", required=True)
    flags.DEFINE_multi_string("compare", [], "Another one, in turns with it; may be repeated.")
    flags.DEFINE_string("external_delegate_path", None, "Library of an external delegate.")
    flags.DEFINE_string("external_delegate_options", None, "Its options: name:value;name:value")
    flags.DEFINE_integer("num_threads", 1, "Threads of the interpreter.", lower_bound=1)
    flags.DEFINE_integer("num_runs", 50, "Runs that count.", lower_bound=1)
    flags.DEFINE_integer("warmup_runs", 5, "Runs before them.", lower_bound=1)
    flags.DEFINE_list("input_layer_shape", None, "Of the input: 1,224,224,3; None: the model's.")
    flags.DEFINE_bool("enable_op_profiling", False, "Also time every operator.")
    program.run(main)
