"""Which scale each tensor of a network gets.

The range of what adder layers read is chosen so that the error of their outputs, after batch
normalization, is smallest: a smaller range rounds more finely and cuts off more.
"""

from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph
from export.tflite.int8.builtin import OUTPUT_AXIS, images_of
from export.tflite.int8.known import Known
from export.tflite.int8.observation import Observation
from export.tflite.int8.scales import AdderLayer, Scale
from export.tflite.int8.ties import SAME_SCALE, tied_constants, tied_groups
from export.tflite.responses import CUSTOM_OPERATOR
from pkkd_tf.quantization import calibration
from pkkd_tf.quantization.integer import LEAST, MOST

SEARCH_OPERATIONS = 1 << 26  # |x - f| a layer and candidate, at most
# Of a step that is added, or of a product's, to that of the sum: from 2**8 on TFLite's ADD errs,
# and its convolutions have no kernel.
LARGEST_RATIO = 2**7
# Of outputs, by TFLite's quantization specification.
PRESCRIBED = {
    "SOFTMAX": Scale(1 / 256, LEAST),
    "LOGISTIC": Scale(1 / 256, LEAST),
    "TANH": Scale(1 / 128, 0),
}


def choose(graph: Graph, observed: Observation, bits: int, known: Known) -> dict[int, Scale]:
    """A scale for each tensor of a float network.

    Args:
        graph: the network, adder operators fused.
        observed: it on calibration images, inputs of adder operators kept.
        bits: of the tensors that adder operators read; all others have 8.
        known: ranges that are not to be searched. Where the adder layers that read one tensor have
            different ones, that tensor's is.

    Returns:
        dict from the number of a tensor to its `Scale`; those of a `tied_groups` group have one.

    Raises:
        ExportError: joined tensors cannot have one scale, or `bits` not be kept to.
    """
    scales, dead = {}, set()
    groups = tied_groups(graph, observed.summaries)
    for group in groups:
        readers = [o for o in graph.named(CUSTOM_OPERATOR) if o.inputs[0] in group]
        own_bits = bits if readers else 8
        bounds = _bounds(graph, observed, group)
        scale = _prescribed(graph, group, own_bits)
        if scale is None and not any(bounds):
            dead |= set(group)
        elif scale is None and readers:
            scale = _of_layers(graph, readers, known, bits)
            if scale is None and not _reach_further(observed, readers, bounds):
                scale = _best(graph, observed, readers, bounds, bits)
        elif scale is None:
            scale = _of_tensors(observed, group, known)
        scales |= dict.fromkeys(group, scale or Scale.of_range(*bounds, own_bits))
    return _widened(graph, groups, scales, dead)


def _bounds(graph: Graph, observed: Observation, group: list[int]) -> tuple[float, float]:
    constants = tied_constants(graph, group)
    lows = [observed.summaries[t].low for t in group] + [float(c.min()) for c in constants]
    highs = [observed.summaries[t].high for t in group] + [float(c.max()) for c in constants]
    return min(lows), max(highs)


def _prescribed(graph: Graph, group: list[int], bits: int) -> Scale | None:
    """What TFLite's quantization specification demands of the operators that make a group."""
    producers = [graph.producer(t) for t in group]
    makers = [None if p is None else graph.name(p) for p in producers]
    makers = [name for name in makers if name not in SAME_SCALE]
    makers += [None for _ in tied_constants(graph, group)]
    demanded = {PRESCRIBED.get(name) if name else None for name in makers}
    scale = next((scale for scale in demanded if scale), None)
    if scale and (len(demanded) > 1 or bits < 8):
        raise ExportError(
            f"Outputs of {', '.join(PRESCRIBED)} have 8 bits and a scale of their own, by TFLite's "
            "specification: other tensors cannot be joined with them. Received: joined outputs of "
            f"{', '.join(name or 'the network itself' for name in makers)}, bits={bits}"
        )
    return scale


def _widened(
    graph: Graph, groups: list[list[int]], scales: dict[int, Scale], dead: set[int]
) -> dict[int, Scale]:
    """Makes steps as large as `_least_step` wants them, which may depend on each other."""
    wider = True
    while wider:
        wider = False
        for group in groups:
            least = max(_least_step(graph, t, scales, t in dead) for t in group)
            scale = scales[group[0]].at_least(least)
            wider |= scale != scales[group[0]]
            scales |= dict.fromkeys(group, scale)
    return scales


def _least_step(graph: Graph, tensor: int, scales: dict[int, Scale], dead: bool) -> float:
    """That of the inputs for a tensor of which only 0 is known; a small part of it for sums."""
    producer = graph.producer(tensor)
    if producer is None:
        return float(dead)
    if graph.name(producer) in OUTPUT_AXIS and not dead:
        largest = float(np.abs(graph.constant(producer.inputs[1])).max()) / MOST
        return scales[images_of(graph, producer)].step * largest / LARGEST_RATIO
    adds = graph.name(producer) in ("ADD", "SUB")
    inputs = [int(t) for t in producer.inputs] if adds else [images_of(graph, producer)]
    found = [scales[t] if t in scales else Scale.of_values(graph.constant(t)) for t in inputs]
    largest = max(scale.step for scale in found)
    return largest if dead else largest / LARGEST_RATIO if adds else 0.0


def _of_layers(graph: Graph, readers: list, known: Known, bits: int) -> Scale | None:
    """The range that all readers of a tensor were given."""
    kernels = [graph.constant(operator.inputs[1]) for operator in readers]
    found = set().union(*(known.of_filters(kernel) for kernel in kernels))
    return Scale.of_range(*found.pop(), bits) if len(found) == 1 else None


def _of_tensors(observed: Observation, group: list[int], known: Known) -> Scale | None:
    """The range that one of them was given; tied ones have one."""
    found = [known.of_tensor(observed.summaries[t]) for t in group]
    return next((Scale.of_range(*ends) for ends in found if ends), None)


def _reach_further(observed: Observation, readers: list, bounds: Any) -> bool:
    """Whether tied tensors have numbers beyond those of adder layers, whose error knows no others.

    These are not to be cut off.
    """
    read = [observed.summaries[int(operator.inputs[0])] for operator in readers]
    low, high = min(s.low for s in read), max(s.high for s in read)
    return bounds[0] < min(low, 0.0) or bounds[1] > max(high, 0.0)


def _best(graph: Graph, observed: Observation, readers: list, bounds: Any, bits: int) -> Scale:
    layers = [AdderLayer(graph, operator) for operator in readers]
    samples = [observed.samples[int(operator.inputs[0])] for operator in readers]
    images = [layer.images(x, SEARCH_OPERATIONS) for layer, x in zip(layers, samples)]
    exact = [layer.response(x) for layer, x in zip(layers, images)]

    def error(low: float, high: float) -> float:
        scale = Scale.of_range(low, high, bits)
        return sum(layer.error(x, y, scale) for layer, x, y in zip(layers, images, exact))

    return Scale.of_range(*calibration.search(np.array(bounds), error, bits), bits)
