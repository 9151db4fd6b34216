"""What a tensor holds, in a few numbers that tell it from others."""

import math
from typing import NamedTuple

import numpy as np


class Summary(NamedTuple):
    """Of all numbers of a tensor that were seen.

    Attributes:
        low, high: smallest and largest, 0 included.
        count: how many.
        total, squares: their sum and that of their squares.
    """

    low: float = 0.0
    high: float = 0.0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def joined(self, values: np.ndarray) -> "Summary":
        """That of these and more numbers."""
        return Summary(
            min(self.low, float(values.min())),
            max(self.high, float(values.max())),
            self.count + values.size,
            self.total + float(values.sum(dtype=np.float64)),
            self.squares + float(np.square(values).sum(dtype=np.float64)),
        )

    def difference(self, other: "Summary") -> float:
        """The largest of ends, mean and root mean square, as a part of the own width.

        Ends alone are alike where tensors are cut off, as by a ReLU6.
        """
        pairs = zip(self._compared(), other._compared())
        return max(abs(a - b) for a, b in pairs) / max(self.high - self.low, 1e-30)

    def _compared(self) -> tuple[float, float, float, float]:
        count = max(self.count, 1)
        return self.low, self.high, self.total / count, math.sqrt(self.squares / count)
