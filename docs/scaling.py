"""What training ResNet-50 by PKKD costs: `python docs/scaling.py [--conv fp32 ...]`.

Prints the tables of scaling.md. Put in your own numbers: the kernels' rates are the constants
below, the rest are options.
"""

import argparse
import math
from typing import Any, NamedTuple

# Tera-operations a second of one H100, an operation being one |x - f| or one multiply-add; medians
# of measured layers at batch 64 (56x56 to 7x7 pixels): (3x3, 1x1).
ADDER = {"forward": (12.15, 11.15), "input gradient": (9.8, 9.4)}
CONVOLUTION = {
    "tf32": {"forward": (127.0, 56.9), "filter gradient": (72.3, 47.5)},
    "fp32": {"forward": (23.2, 10.0), "filter gradient": (30.0, 12.5)},
}
IMAGES, EPOCHS, BYTES = 1_281_167, 150, 4


class Network(NamedTuple):
    """What one image costs in ResNet-50: operations, numbers and parameters."""

    operations: tuple[float, float]  # of its 3x3 and 1x1 layers, forward
    activations: float  # outputs of all its convolutions or adder layers
    parameters: int
    alignment: float  # operations of the 1x1 convolutions of the feature loss, forward
    alignment_parameters: int


def count() -> Network:
    """Counts the network that `pkkd_tf.models` builds."""
    from pkkd_tf import models

    student = models.build("resnet50", "adder", 1000, (224, 224, 3))
    operations, activations, alignment, aligned = [0.0, 0.0], 0, 0, 0
    for layer in student.layers:
        if not hasattr(layer, "kernel"):
            continue
        outputs = math.prod(layer.output.shape[1:])
        size = layer.kernel.shape
        operations[size[0] == 1] += outputs * math.prod(size[:3])
        activations += outputs
    for name in models.block_ends(student):
        channels = student.get_layer(name).output.shape[3]
        alignment += math.prod(student.get_layer(name).output.shape[1:]) * channels
        aligned += channels**2
    parameters = sum(math.prod(v.shape) for v in student.trainable_variables)
    return Network(tuple(operations), activations, parameters, alignment, aligned)


def seconds(operations: tuple[float, float], rates: tuple[float, float]) -> float:
    """Time of 3x3 and 1x1 layers."""
    return sum(o / (r * 1e12) for o, r in zip(operations, rates))


def parts(network: Network, options: Any) -> dict[str, float]:
    """Seconds of one image on one accelerator, by part; nothing overlaps."""
    conv = CONVOLUTION[options.conv]
    backward = seconds(network.operations, conv["filter gradient"])
    forward = seconds(network.operations, conv["forward"])
    aligned = (0.0, network.alignment)
    traffic = 2 * network.activations * BYTES * options.passes
    return {
        "student, forward": seconds(network.operations, ADDER["forward"]),
        "student, input gradient": seconds(network.operations, ADDER["input gradient"]),
        "student, filter gradient": backward,
        "teacher": 2 * forward + backward,
        "feature loss's convolutions": 2 * seconds(aligned, conv["forward"])
        + seconds(aligned, conv["filter gradient"]),
        "normalization and the like, both": traffic / (options.memory * 1e12),
    }


def step(network: Network, replicas: int, batch: int, options: Any) -> dict[str, float]:
    """One step of `replicas` accelerators with `batch` images each."""
    compute = max(batch * sum(parts(network, options).values()), options.launches * 1e-3)
    parameters = 2 * network.parameters + network.alignment_parameters
    bandwidth = options.inside if replicas <= options.node else options.between
    reduce = 2 * (replicas - 1) / replicas * BYTES * parameters / (bandwidth * 1e9)
    total = compute + reduce
    rate = replicas * batch / total
    return {
        "replicas": replicas,
        "batch": replicas * batch,
        "compute": compute,
        "reduce": reduce,
        "rate": rate,
        "hours": EPOCHS * IMAGES / rate / 3600,
        "cores": rate / options.images_a_core / replicas,
    }


def table(network: Network, options: Any) -> str:
    """Markdown: parts of an image, then steps at the recipe's batch and at 64 images a replica."""
    of_image = parts(network, options)
    lines = [f"Convolutions in {options.conv}.", "", "| part | us an image |", "|---|---|"]
    lines += [f"| {name} | {value * 1e6:.0f} |" for name, value in of_image.items()]
    lines += [f"| sum | {sum(of_image.values()) * 1e6:.0f} |", ""]
    lines += [
        "| H100 | global batch | compute, ms | all-reduce, ms | images/s | hours | efficiency | "
        "input: cores an H100 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    one = step(network, 1, 256, options)["rate"]
    for replicas, batch in ((1, 256), (8, 32), (64, 4), (8, 64), (64, 64)):
        r = step(network, replicas, batch, options)
        lines.append(
            f"| {replicas} | {r['batch']} | {r['compute'] * 1e3:.1f} | {r['reduce'] * 1e3:.1f} | "
            f"{r['rate']:.0f} | {r['hours']:.1f} | {r['rate'] / replicas / one:.2f} | "
            f"{r['cores']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, each with where its default comes from."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--conv", choices=sorted(CONVOLUTION), default="tf32", help="precision of convolutions")
    add("--memory", type=float, default=2.5, help="TB/s reached; an assumption (3.35 at most)")
    add("--passes", type=float, default=10, help="over each activation in memory; an assumption")
    add("--launches", type=float, default=10, help="ms a step takes at least; an assumption")
    add("--node", type=int, default=8, help="accelerators that NVLink connects")
    add("--inside", type=float, default=200, help="GB/s each in a node; an assumption")
    add("--between", type=float, default=25, help="GB/s each between nodes; an assumption")
    add("--images_a_core", type=float, default=340, help="of the input; benchmarks.input_pipeline")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(table(count(), parse()))
