"""Time and memory of adder layers beside the stock convolution, on the processor.

    python -m benchmarks.layers                        every layer, all processors: some minutes
    python -m benchmarks.layers --threads 1 --images 0.1 --output quick

Layers of ResNet-20 (batch 128) and ResNet-50 (batch 16); forward, input gradient and filter
gradient by the compiled operations, by the stock TensorFlow operations of `pkkd_tf.ops.reference`
and, instead of the adder, by TensorFlow's convolution. The three take turns, so that a busy machine
is busy for each of them. A time is the fastest of the turns, with one thread in processor time,
which other programs do not lengthen, with more on the wall clock; Gop/s counts one |x - f|, or one
multiplication, as one operation, those on padding included. Memory is the resident peak of a pass
above its arguments, its result included, in a process of its own. The filter gradient of both
adders is the same function.

Writes `cpu.json`, `cpu.md` (the table it prints) and `cpu.png` into the output folder.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks import measure, report
from benchmarks.shapes import Layer
from pkkd_tf.ops import compiled, filter_gradient, reference
from pkkd_tf.ops.geometry import make_geometry

PASSES = ("forward", "input gradient", "filter gradient")
IMPLEMENTATIONS = ("compiled adder", "reference adder", "convolution")


LAYERS = [
    Layer("ResNet-20", 128, 32, 16, 16, 3),
    Layer("ResNet-20", 128, 32, 16, 32, 3, 2),
    Layer("ResNet-20", 128, 32, 16, 32, 1, 2),
    Layer("ResNet-20", 128, 16, 32, 32, 3),
    Layer("ResNet-20", 128, 16, 32, 64, 3, 2),
    Layer("ResNet-20", 128, 8, 64, 64, 3),
    Layer("ResNet-50", 16, 56, 64, 64, 3),
    Layer("ResNet-50", 16, 56, 64, 256, 1),
    Layer("ResNet-50", 16, 56, 128, 128, 3, 2),
    Layer("ResNet-50", 16, 28, 128, 128, 3),
    Layer("ResNet-50", 16, 28, 512, 128, 1),
    Layer("ResNet-50", 16, 14, 256, 256, 3),
    Layer("ResNet-50", 16, 14, 1024, 256, 1),
    Layer("ResNet-50", 16, 7, 512, 512, 3),
]


def passes(layer: Layer, implementation: str) -> dict[str, Callable[..., tf.Tensor]]:
    """The functions (x, f, dy) of the passes."""
    pads = ((layer.pad, layer.pad),) * 2
    if implementation == "convolution":
        return _convolution(layer)
    geometry = make_geometry(layer.stride, pads, 1, 1)
    path = compiled if implementation == "compiled adder" else reference
    return {
        "forward": lambda x, f, dy: path.forward(x, f, geometry),
        "input gradient": lambda x, f, dy: path.input_gradient(x, f, dy, geometry, "clipped"),
        "filter gradient": lambda x, f, dy: filter_gradient.filter_gradient(x, f, dy, geometry),
    }


def _convolution(layer: Layer) -> dict[str, Callable[..., tf.Tensor]]:
    pad, x_shape, f_shape = [layer.pad] * 2, *layer.shapes[:2]
    arguments = {
        "strides": [1, layer.stride, layer.stride, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, *pad, *pad, 0, 0],
    }
    raw = tf.raw_ops
    return {
        "forward": lambda x, f, dy: raw.Conv2D(input=x, filter=f, **arguments),
        "input gradient": lambda x, f, dy: raw.Conv2DBackpropInput(
            input_sizes=x_shape, filter=f, out_backprop=dy, **arguments
        ),
        "filter gradient": lambda x, f, dy: raw.Conv2DBackpropFilter(
            input=x, filter_sizes=f_shape, out_backprop=dy, **arguments
        ),
    }


def times(layers: list[Layer], threads: int) -> Iterator[dict]:
    """A row for each layer and pass; the implementations take turns."""
    clock = measure.clock_for(threads)
    for layer in layers:
        tensors = [tf.random.stateless_normal(s, [i, 0]) for i, s in enumerate(layer.shapes)]
        for name in PASSES:
            graphs = {i: tf.function(passes(layer, i)[name]) for i in IMPLEMENTATIONS}
            calls = {i: functools.partial(graph, *tensors) for i, graph in graphs.items()}
            row = {**dataclasses.asdict(layer), "name": layer.name, "pass": name}
            yield row | {"operations": layer.operations} | measure.fastest(calls, clock)


def memory(layers: list[Layer]) -> Iterator[dict]:
    """Peak bytes, row for row like `times`."""
    for layer in layers:
        small = dataclasses.replace(layer, batch=1, size=8)
        for name in PASSES:
            peaks = {}
            for i in IMPLEMENTATIONS:
                call = functools.partial(_first_small, layer, i, name)
                peaks[i] = measure.peak(call, small.shapes, layer.shapes)
            yield {"bytes": peaks}


def _first_small(layer: Layer, implementation: str, name: str, *tensors: tf.Tensor) -> tf.Tensor:
    size = tensors[0].shape[1]
    layer = dataclasses.replace(layer, batch=tensors[0].shape[0], size=size)
    return tf.function(passes(layer, implementation)[name])(*tensors)


def memory_in_fresh_process(arguments: list[str]) -> list[dict]:
    """The rows of `--memory`, which have to come from a process that has computed nothing."""
    command = [sys.executable, "-m", "benchmarks.layers", "--memory", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main(arguments: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--images", type=float, default=1.0, help="fraction of the batches")
    parser.add_argument("--network", help="only ResNet-20 or ResNet-50")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("results/layers"))
    parser.add_argument("--memory", action="store_true", help="only memory, as JSON")
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")  # or it warns of many functions
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    layers = [
        dataclasses.replace(layer, batch=max(1, round(layer.batch * options.images)))
        for layer in LAYERS
        if options.network in (None, layer.network)
    ]
    if options.memory:
        print(json.dumps(list(memory(layers))))
        return
    peaks = memory_in_fresh_process(arguments)
    rows = [time | peak for time, peak in zip(times(layers, options.threads), peaks, strict=True)]
    machine = measure.machine(options.threads) | {"kernels": compiled.instruction_set()}
    report.write(options.output, "cpu", machine, rows, IMPLEMENTATIONS, PASSES)


if __name__ == "__main__":
    main(sys.argv[1:])
