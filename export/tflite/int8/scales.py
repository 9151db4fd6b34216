"""One scale and zero point a tensor; shared by an adder layer's activations and its filters."""

import dataclasses
from typing import Any

import numpy as np

from export.tflite.graph import Graph, get_options
from pkkd_tf import ops
from pkkd_tf.quantization.fake_quantize import scale_and_zero_point
from pkkd_tf.quantization.integer import LEAST, MOST

SMALLEST_RANGE = 1e-6


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
