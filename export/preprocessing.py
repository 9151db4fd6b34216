"""The preprocessing of a network's images, as flags: by data set, or by numbers."""

import math
from typing import Any

from absl import flags

from export.program import ExportError
from pkkd_tf.data import PREPROCESSING

DEFAULT_SCALE = 1 / 255


def define_flags() -> None:
    """Defines --dataset, --mean, --std and --scale."""
    flags.DEFINE_enum("dataset", None, sorted(PREPROCESSING), "Preprocess as for this data set.")
    flags.DEFINE_list("mean", None, "Of scaled pixels, a value a channel: 0.49,0.48,0.45")
    flags.DEFINE_list("std", None, "Deviation of scaled pixels, a value a channel.")
    flags.DEFINE_float("scale", None, "Factor on the pixels; None: 1/255.")


def from_flags() -> dict[str, Any] | None:
    """The preprocessing that the flags ask for, or None where they ask for none."""
    return parse(*(flags.FLAGS[name].value for name in ("dataset", "mean", "std", "scale")))


def parse(
    dataset: str | None, mean: list[str] | None, std: list[str] | None, scale: float | None
) -> dict[str, Any] | None:
    """A network is given (pixel * scale - mean) / std, pixel an integer in 0..255.

    Args:
        dataset: a key of `pkkd_tf.data.PREPROCESSING`, or None.
        mean: numbers, one a channel; not together with `dataset`.
        std: numbers, one a channel.
        scale: factor on the pixels; None is 1 / 255.

    Returns:
        dict with `mean`, `std` (tuples of floats) and `scale`; None if nothing is given.

    Raises:
        ExportError: the values contradict each other or are out of their range.

    Example:
        >>> parse(None, ["0.5"], ["0.25"], None)
        {'mean': (0.5,), 'std': (0.25,), 'scale': 0.00392156862745098}
    """
    received = f"Received: dataset={dataset!r}, mean={mean}, std={std}, scale={scale}"
    numbers = (mean, std, scale)
    if dataset is None and all(value is None for value in numbers):
        return None
    if dataset is not None:
        if any(value is not None for value in numbers):
            raise ExportError(f"--dataset excludes --mean, --std and --scale. {received}")
        return PREPROCESSING[dataset]
    if not mean or not std or len(mean) != len(std):
        raise ExportError(f"--mean and --std must have the same number of values. {received}")
    scale = DEFAULT_SCALE if scale is None else scale
    means, deviations = _floats(mean, received), _floats(std, received)
    if min(deviations) <= 0 or not 0 < scale < math.inf:
        raise ExportError(f"--std and --scale must be positive. {received}")
    return {"mean": means, "std": deviations, "scale": scale}


def _floats(texts: list[str], received: str) -> tuple[float, ...]:
    try:
        values = tuple(float(text) for text in texts)
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise ExportError(f"--mean and --std must be finite numbers. {received}")
    return values
