"""The ranges of a network that was fine-tuned in rounded numbers, for its int8 file."""

import dataclasses
import math

import keras
import numpy as np

from export.program import ExportError
from export.tflite.int8.summary import Summary
from pkkd_tf import quantization

BATCH = 8  # all tensors of that many images are held
SAME = 1e-4  # of a tensor's own width, what two programs' float32 may differ by at most
Ends = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Known:
    """Ranges by what tells a layer or a tensor, which have other names in a file.

    Attributes:
        filters: filters of an adder layer, and what they are rounded in.
        tensors: what they hold on the calibration images, and what they are rounded in.
    """

    filters: list[tuple[np.ndarray, Ends]] = dataclasses.field(default_factory=list)
    tensors: list[tuple[Summary, Ends]] = dataclasses.field(default_factory=list)

    def of_filters(self, kernel: np.ndarray) -> set[Ends]:
        """The ranges of layers with these filters.

        Depthwise filters are (kh, kw, C, m) in Keras and (kh, kw, 1, C * m) in a file.
        """
        return {
            ends
            for own, ends in self.filters
            if own.size == kernel.size and np.array_equal(own.ravel(), kernel.ravel())
        }

    def of_tensor(self, seen: Summary) -> Ends | None:
        """The range of the tensor that held just that; None for another one."""
        differences = [(seen.difference(own), ends) for own, ends in self.tensors]
        least, ends = min(differences, default=(math.inf, None))
        return ends if least <= SAME else None


def known_ranges(
    trained: keras.Model, stripped: keras.Model, images: np.ndarray
) -> tuple[Known, int]:
    """The ranges of a fine-tuned network, and the bits of its adder layers.

    Args:
        trained: what `pkkd_tf.quantization.quantize_model` returned, trained or not.
        stripped: the network of plain layers with its weights.
        images: float32 array (N, H, W, C), the calibration images of the file.

    Raises:
        ExportError: an adder layer has several ranges, or layers have several numbers of bits.
    """
    found = quantization.ranges(trained)
    grouped = [name for name, entry in found.items() if len(entry["ranges"]) > 1]
    bits = {entry["bits"] for entry in found.values()}
    if grouped or len(bits) != 1:
        raise ExportError(
            "An int8 network has one scale a layer and one number of bits; several are for studies "
            f"in Keras. Received: layers with several scales={grouped[:3]}, bits={sorted(bits)}"
        )
    kernels = {name: keras.ops.convert_to_numpy(trained.get_layer(name).kernel) for name in found}
    filters = [(kernels[name], found[name]["ranges"][0]) for name in found]
    tensors = quantization.tensor_ranges(trained)
    seen = _seen(stripped, list(tensors), images)
    return Known(filters, [(seen[name], ends) for name, ends in tensors.items()]), bits.pop()


def _seen(model: keras.Model, names: list[str], images: np.ndarray) -> dict[str, Summary]:
    """What the outputs of named layers hold."""
    network = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    seen = dict.fromkeys(names, Summary())
    for first in range(0, len(images), BATCH):
        for name, values in network(images[first : first + BATCH], training=False).items():
            seen[name] = seen[name].joined(np.asarray(values))
    return seen
