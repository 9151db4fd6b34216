"""One layer on 8-bit integers beside float32 and beside convolutions, in a TFLite interpreter.

    python -m benchmarks.int8_layers                         the layers of ResNet-20, batch 1
    PKKD_TF_CPU=avx2 python -m benchmarks.int8_layers        with adders of AVX2

Five models of one layer each take turns: the adder of int8 and of float32 by the delegate, the
convolution of int8 (TFLiteConverter, post-training quantization) and of float32 by XNNPACK, as
the interpreter's wheel brings it, and the int8 adder with a residual. A time is that of a whole
`invoke` from Python on one thread, in processor time, the fastest of the turns. PKKD_TF_CPU limits
the adders alone: XNNPACK takes what the processor has.

Writes `cpu.json` and `cpu.md` (the table it prints) into the output folder.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import pkkd_tf
from benchmarks import layers, measure, report
from benchmarks.shapes import Layer
from custom_ops import build_delegate
from export.tflite import Network, convert
from export.tflite.graph import Graph, get_options, set_options
from pkkd_tf.ops import compiled

ADDER, RESIDUAL, FLOAT_ADDER = "int8 adder", "int8 adder + residual", "float32 adder"
CONVOLUTION, FLOAT_CONVOLUTION = "int8 convolution", "float32 convolution"
TURNS, CALLS = 60, 10
SHIFT = 30


def models(layer: Layer) -> dict[str, bytes]:
    """The `.tflite` files of a layer."""
    adder = convert(_network(layer, pkkd_tf.layers.AdderConv2D), "custom_op")
    convolution = _network(layer, keras.layers.Conv2D)
    return {
        ADDER: int8_adder(adder),
        RESIDUAL: int8_adder(adder, residual=True),
        FLOAT_ADDER: adder,
        CONVOLUTION: _convolution(convolution, quantized=True),
        FLOAT_CONVOLUTION: _convolution(convolution, quantized=False),
    }


def _network(layer: Layer, kind: type) -> keras.Model:
    x_shape, f_shape, _ = layer.shapes
    images = keras.Input(x_shape[1:])
    arguments = {"strides": layer.stride, "padding": "same", "use_bias": False}
    return keras.Model(images, kind(f_shape[3], layer.kernel, **arguments)(images))


def int8_adder(data: bytes, residual: bool = False) -> bytes:
    """The file of one adder layer with its operator on 8-bit integers.

    Scale and zero point are of some sensible size, which is all that the time depends on.

    Args:
        data: bytes of a `.tflite` file of one operator AdderConv2D, float32.
        residual: if True, the operator adds its own input, where that has the output's shape, or
            a constant.

    Returns:
        Bytes of the `.tflite` file.
    """
    graph = Graph(data)
    (operator,) = graph.named("AdderConv2D")
    x, filters = operator.inputs[:2]
    numbers = graph.constant(filters)
    outputs, terms = numbers.shape[3], numbers[..., 0].size
    quantized = np.clip(np.rint(numbers / np.abs(numbers).max() * 127), -127, 127).astype(np.int8)
    multiplier = np.full(outputs, -(2**SHIFT // terms), np.int32)
    bias = np.full(outputs, 85 << SHIFT, np.int64)
    operator.inputs = [x, graph.add_constant(quantized, "filters")]
    operator.inputs += [
        graph.add_constant(multiplier, "multiplier"),
        graph.add_constant(bias, "bias"),
    ]
    options = {"zero": -128, "shift": SHIFT, "low": -128, "high": 127}
    if residual:
        options |= {"residual": 1, "residual_multiplier": 2 ** (SHIFT - 1)}
        shape = graph.shape(operator.outputs[0])
        other = np.zeros([max(size, 1) for size in shape], np.int8)
        same = shape == graph.shape(x)
        operator.inputs.append(x if same else graph.add_constant(other, "residual"))
    geometry = {k: v for k, v in get_options(operator).items() if k not in ("affine", "relu")}
    set_options(operator, geometry | options)
    for tensor in (x, operator.outputs[0]):
        graph.set_type(tensor, np.int8)
        graph.set_scale(tensor, 0.02, -128)
    graph.drop_unread()
    return graph.to_bytes()


def _convolution(model: keras.Model, quantized: bool) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        shape = [1, *model.inputs[0].shape[1:]]
        images = np.random.default_rng(0).standard_normal([4, *shape]).astype(np.float32)
        converter.representative_dataset = lambda: ([image] for image in images)
    return converter.convert()


def interpreters(files: dict[str, bytes], layer: Layer) -> dict[str, Network]:
    """What runs them, on one thread, with an input of the layer's batch."""
    made = {}
    for name, data in files.items():
        delegate = build_delegate.LIBRARY if "adder" in name else None
        made[name] = Network(data, delegate, num_threads=1)
        rng, dtype = np.random.default_rng(0), made[name].input["dtype"]
        made[name].set_input((rng.standard_normal(layer.shapes[0]) * 40).astype(dtype))
    return made


def fastest(calls: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, float]:
    """Seconds of one call in the fastest turn; they take turns of some calls."""
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for name, call in calls.items():
            call()
            start = time.process_time()
            for _ in range(CALLS):
                call()
            seconds[name] = min(seconds[name], (time.process_time() - start) / CALLS)
    return seconds


def measured(chosen: list[Layer], turns: int = TURNS) -> list[dict]:
    """A row for each layer."""
    rows = []
    for layer in chosen:
        made = interpreters(models(layer), layer)
        seconds = fastest({name: network.invoke for name, network in made.items()}, turns)
        rows.append({"layer": layer.name, "operations": layer.operations, "seconds": seconds})
    return rows


def table(machine: dict, batch: int, rows: list[dict]) -> str:
    """Markdown: microseconds (G operations a second) of each model."""
    names = list(rows[0]["seconds"])
    lines = [
        f"{machine['device']}, 1 thread, processor time, {machine['kernels']} adder kernels, "
        f"LiteRT {machine['litert']}, TensorFlow {machine['tensorflow']}, {machine['date']}",
        "",
        f"Batch {batch}, a whole `invoke`, microseconds (G operations a second: one |x - f| or one "
        "product and sum). The last column is the int8 adder's time over the int8 convolution's.",
        "",
        f"| layer | {' | '.join(names)} | ratio |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for row in rows:
        rates = [
            f"{s * 1e6:.1f} ({row['operations'] / s / 1e9:.0f})" for s in row["seconds"].values()
        ]
        ratio = row["seconds"][ADDER] / row["seconds"][CONVOLUTION]
        lines.append(f"| {row['layer']} | {' | '.join(rates)} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def _litert_version() -> str:
    try:
        return importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        return "of TensorFlow"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--network", default="ResNet-20", help="or ResNet-50")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("results/int8_layers"))
    arguments = parser.parse_args()
    if not build_delegate.LIBRARY.exists():
        build_delegate.build_delegate(quiet=True)
    chosen = [
        dataclasses.replace(layer, batch=arguments.batch)
        for layer in layers.LAYERS
        if layer.network == arguments.network
    ]
    rows = measured(chosen)
    machine = measure.machine(1) | {"kernels": compiled.instruction_set()}
    machine["litert"] = _litert_version()
    record = {"machine": machine, "batch": arguments.batch, "rows": rows}
    report.write_record(arguments.output, "cpu", record, table(machine, arguments.batch, rows))


if __name__ == "__main__":
    main()
