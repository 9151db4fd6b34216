"""One scale and zero point a tensor; shared by an adder layer's activations and its filters.

The range of what adder layers read is chosen so that the error of their outputs, after batch
normalization, is smallest: a smaller range rounds more finely and cuts off more.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.tflite.graph import Graph, get_options
from export.tflite.int8.observation import Observation
from export.tflite.responses import CUSTOM_OPERATOR
from pkkd_tf import ops
from pkkd_tf.quantization import calibration
from pkkd_tf.quantization.fake_quantize import scale_and_zero_point
from pkkd_tf.quantization.integer import LEAST, MOST

SAME_SCALE = (
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "RESHAPE",
    "PAD",
    "TRANSPOSE",
    "STRIDED_SLICE",
)
OPERATIONS = 1 << 26  # |x - f| a layer and candidate, at most
SMALLEST_RANGE = 1e-6
LARGEST_RATIO = 2**7  # of a step that is added to that of the sum; TFLite's ADD errs from 2**8 on
Range = tuple[np.ndarray, float, float]  # filters of an adder layer, and what they are rounded in


@dataclasses.dataclass(frozen=True)
class Scale:
    """real = (q - zero) * step for q in LEAST..high."""

    step: float
    zero: int
    high: int = MOST

    @classmethod
    def of_range(cls, low: float, high: float, bits: int = 8) -> "Scale":
        """Covers a range that contains 0 with 2**bits values, 0 being one of them."""
        levels = 2**bits - 1
        step, zero = scale_and_zero_point(low, high, bits)
        step = float(np.float32(max(step, SMALLEST_RANGE / levels)))
        return cls(step, LEAST + zero, LEAST + levels)

    @classmethod
    def of_values(cls, values: np.ndarray) -> "Scale":
        """Covers the values, and 0."""
        return cls.of_range(min(values.min(), 0.0), max(values.max(), 0.0))

    def at_least(self, step: float) -> "Scale":
        """This one, or the one of the same zero point with a larger step."""
        return dataclasses.replace(self, step=max(self.step, float(np.float32(step))))

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        return (LEAST - self.zero) * self.step, (self.high - self.zero) * self.step

    def quantized(self, values: np.ndarray) -> np.ndarray:
        """The nearest integers."""
        q = np.rint(np.asarray(values) / self.step) + self.zero
        return np.clip(q, LEAST, self.high).astype(np.int8)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """The numbers that the nearest integers stand for, float32."""
        return ((self.quantized(values).astype(np.int32) - self.zero) * self.step).astype("float32")


class AdderLayer:
    """One float adder operator of a graph, to be computed on other filters and images.

    Args:
        graph: the float network.
        operator: one of its AdderConv2D.
    """

    def __init__(self, graph: Graph, operator: Any):
        self.options = get_options(operator)
        self.filters = graph.constant(operator.inputs[1])
        outputs = self.filters.shape[3]
        self.scale, self.offset = np.ones(outputs), np.zeros(outputs)
        if self.options.get("affine"):
            self.scale, self.offset = (
                graph.constant(t).astype(np.float64) for t in operator.inputs[2:4]
            )

    @property
    def geometry(self) -> dict[str, Any]:
        """Arguments of `pkkd_tf.ops.adder_conv2d` and of the integer operator."""
        o = self.options
        pads = (o["pad_top"], o["pad_bottom"]), (o["pad_left"], o["pad_right"])
        strides, dilations = ((o[f"{k}_h"], o[f"{k}_w"]) for k in ("stride", "dilation"))
        return {"strides": strides, "padding": pads, "dilations": dilations, "groups": o["groups"]}

    def response(self, x: np.ndarray, scale: Scale | None = None) -> np.ndarray:
        """The response, of `x` and filters as they are or rounded and cut off by a scale."""
        if scale is None:
            return ops.adder_conv2d(x, self.filters, **self.geometry).numpy()
        response = ops.adder_conv2d(scale.rounded(x), scale.rounded(self.filters), **self.geometry)
        return response.numpy() - self.cut_off(scale)

    def cut_off(self, scale: Scale) -> np.ndarray:
        """The sum of |f - clip(f)| of each filter.

        Cutting off takes it from the distance to every x in the range (AdderNet 2.0): a constant.
        """
        parts = np.abs(self.filters - np.clip(self.filters, *scale.range))
        return parts.sum((0, 1, 2), dtype=np.float64)

    def error(self, x: np.ndarray, exact: np.ndarray, scale: Scale) -> float:
        """Share of the outputs' variance that rounding adds, means being corrected."""
        difference = self.response(x, scale) - exact
        weights = self.scale**2
        axes = (0, 1, 2)
        return float(
            (weights * difference.var(axes)).sum() / max((weights * exact.var(axes)).sum(), 1e-30)
        )

    def images(self, x: np.ndarray, operations: int) -> np.ndarray:
        """As many of the images as so many |x - f| allow, one at least."""
        return x[: self.most_images(x, operations)]

    def most_images(self, x: np.ndarray, operations: int) -> int:
        """How many those are, of images as large as `x` holds."""
        pixels = x[0, ..., 0].size / np.prod(self.geometry["strides"])
        return max(1, int(operations / (pixels * self.filters.size)))


def choose(
    graph: Graph, observed: Observation, bits: int, ranges: Sequence[Range] = ()
) -> dict[int, Scale]:
    """A scale for each tensor of a float network.

    Args:
        graph: the network, adder operators fused.
        observed: it on calibration images, inputs of adder operators kept.
        bits: of the tensors that adder operators read; all others have 8.
        ranges: of adder layers where they are known. Where the layers that read one tensor have
            different ones, that tensor's is searched.

    Returns:
        dict from the number of a tensor to its `Scale`; tensors tied by `SAME_SCALE` have one.
    """
    first = {t: t for t in observed.low}
    for operator in graph.operators:
        if graph.name(operator) in SAME_SCALE and operator.outputs[0] in first:
            first[operator.outputs[0]] = first[operator.inputs[0]]
    scales = {}
    for root in dict.fromkeys(first.values()):
        tied = [t for t in first if first[t] == root]
        readers = [o for o in graph.named(CUSTOM_OPERATOR) if o.inputs[0] in tied]
        bounds = min(observed.low[t] for t in tied), max(observed.high[t] for t in tied)
        scale = _prescribed(graph, root) or _known(graph, readers, ranges, bits)
        least = _least_step(graph, root, scales, dead=scale is None and not any(bounds))
        if scale is None and readers and any(bounds):
            scale = _best(graph, observed, readers, bounds, bits)
        scale = scale or Scale.of_range(*bounds, bits if readers else 8)
        scales |= dict.fromkeys(tied, scale.at_least(least))
    return scales


def _prescribed(graph: Graph, tensor: int) -> Scale | None:
    """What TFLite's quantization specification demands of an operator's output."""
    producer = graph.producer(tensor)
    is_softmax = producer is not None and graph.name(producer) == "SOFTMAX"
    return Scale(1 / 256, LEAST) if is_softmax else None


def _least_step(graph: Graph, tensor: int, scales: dict[int, Scale], dead: bool) -> float:
    """That of the inputs for a tensor of which only 0 is known; a small part of it for sums."""
    producer = graph.producer(tensor)
    if producer is None:
        return float(dead)
    adds = graph.name(producer) in ("ADD", "SUB")
    inputs = [int(t) for t in (producer.inputs if adds else producer.inputs[:1])]
    found = [scales[t] if t in scales else Scale.of_values(graph.constant(t)) for t in inputs]
    largest = max(scale.step for scale in found)
    return largest if dead else largest / LARGEST_RATIO if adds else 0.0


def _known(graph: Graph, readers: list, ranges: Sequence[Range], bits: int) -> Scale | None:
    """The range that all readers of a tensor were given; a layer is known by its filters."""
    kernels = [graph.constant(operator.inputs[1]) for operator in readers]
    found = {
        (low, high)
        for kernel in kernels
        for filters, low, high in ranges
        if _same_filters(kernel, filters)
    }
    return Scale.of_range(*found.pop(), bits) if len(found) == 1 else None


def _same_filters(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Depthwise filters are (kh, kw, C, m) in Keras and (kh, kw, 1, C * m) here."""
    return ours.size == theirs.size and np.array_equal(ours.ravel(), theirs.ravel())


def _best(graph: Graph, observed: Observation, readers: list, bounds: Any, bits: int) -> Scale:
    layers = [AdderLayer(graph, operator) for operator in readers]
    images = [
        a.images(observed.samples[int(o.inputs[0])], OPERATIONS) for a, o in zip(layers, readers)
    ]
    exact = [layer.response(x) for layer, x in zip(layers, images)]

    def error(low: float, high: float) -> float:
        scale = Scale.of_range(low, high, bits)
        return sum(layer.error(x, y, scale) for layer, x, y in zip(layers, images, exact))

    return Scale.of_range(*calibration.search(np.array(bounds), error, bits), bits)
