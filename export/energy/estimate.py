"""Energy of an inference, by computation alone and with memory."""

import dataclasses
from collections.abc import Iterable, Sequence

from export.energy.constants import BY_BITS, HOROWITZ, Constants, Level
from export.energy.records import LayerRecord
from export.program import ExportError

MEMORY_MODEL = (
    "every filter and every activation tensor moves once: filters are read from the smallest level "
    "that holds all filters of the network, an activation tensor is written to and read from the "
    "smallest level that holds it alone. Partial sums stay in registers. That is perfect reuse: a "
    "lower bound."
)
PICO_TO_MICRO = 1e-6


@dataclasses.dataclass(frozen=True)
class LayerEnergy:
    """One layer, or the whole network, for one image. Energies in microjoules, traffic in bytes.

    Attributes:
        record: the counts.
        compute: energy of the operations alone, what papers of adder networks give.
        filters: bytes of filters that are read.
        activations: bytes of activations that are read and written.
        by_level: bytes by the name of the memory level.
        memory: energy of the memory accesses.
        memory_upper: the same with the upper end of every level's range.
    """

    record: LayerRecord
    compute: float
    filters: int
    activations: int
    by_level: dict[str, int]
    memory: float
    memory_upper: float

    @property
    def with_memory(self) -> float:
        """Energy of operations and memory accesses."""
        return self.compute + self.memory


@dataclasses.dataclass(frozen=True)
class NetworkEnergy:
    """A network in one number format.

    Attributes:
        format: "fp32", "fp16" or "int8".
        filter_level: name of the memory level that filters are read from.
        layers: one entry a layer.
        total: their sum.
    """

    format: str
    filter_level: str
    layers: tuple[LayerEnergy, ...]
    total: LayerEnergy


def energy_of_counts(
    multiplications: float, additions: float, bits: int = 32, constants: Constants = HOROWITZ
) -> float:
    """Energy of the operations alone: `E = multiplications * E_mul + additions * E_add`.

    The convention of adder network papers: a multiply-accumulate is one multiplication and one
    addition, an adder term two additions, nothing for memory, magnitudes and batch normalization.

    Args:
        multiplications: how many.
        additions: how many.
        bits: 32 (fp32), 16 (fp16) or 8 (int8).
        constants: picojoules of one operation; Horowitz' by default.

    Returns:
        Microjoules.

    Raises:
        ExportError: another number of bits.

    Example:
        >>> round(energy_of_counts(41.17e6, 41.17e6), 1)  # ResNet-20 with convolutions, published
        189.4

    Limits: int8 sums are counted as int8 additions, as in those papers. Real hardware accumulates
    wider: at an int32 addition's 0.1 pJ for every accumulation an adder layer would save a factor
    of (0.2 + 0.1) / (0.03 + 0.1) = 2.3 against the 3.8 of that convention.
    """
    operation = constants.operations[format_of(bits)]
    picojoules = multiplications * operation.multiply + additions * operation.add
    return picojoules * PICO_TO_MICRO


def format_of(bits: int) -> str:
    """The number format of that width.

    Raises:
        ExportError: none of 32, 16 and 8.
    """
    if bits not in BY_BITS:
        raise ExportError(f"--bits must be out of {tuple(BY_BITS)}. Received: bits={bits!r}")
    return BY_BITS[bits]


def estimate(
    records: Sequence[LayerRecord], bits: int = 32, constants: Constants = HOROWITZ
) -> NetworkEnergy:
    """Energy and memory traffic of one inference, layer by layer and in total.

    Memory model: every filter and every activation tensor moves once. Filters are read from the
    smallest level that holds all filters of the network (they stay from image to image), an
    activation tensor is written to and read from the smallest level that holds it alone. Each
    costs its bits / 64 accesses, rounded up. Partial sums stay in registers.

    Args:
        records: the network's layers, of `keras_records` or another reader.
        bits: 32 (fp32), 16 (fp16) or 8 (int8), of operations, filters and activations.
        constants: Horowitz' by default.

    Returns:
        `NetworkEnergy`.

    Raises:
        ExportError: another number of bits.

    Example:
        >>> energy = estimate(keras_records(pkkd_tf.models.resnet20()), bits=8)
        >>> round(energy.total.compute, 2), round(energy.total.with_memory, 2)
        (2.52, 6.93)

    Limits: perfect reuse is a lower bound, and no machine's measured energy.
    """
    format = format_of(bits)
    width = constants.operations[format].bits
    filter_level = constants.level_of(_bytes(sum(r.weights for r in records), width))
    layers = tuple(_layer(record, bits, width, filter_level, constants) for record in records)
    return NetworkEnergy(format, filter_level.name, layers, _total(layers, constants))


def _layer(
    record: LayerRecord, bits: int, width: int, filter_level: Level, constants: Constants
) -> LayerEnergy:
    filters = _bytes(record.weights, width)
    tensors = [_bytes(numbers, width) for numbers in (*record.reads, *record.writes)]
    moves = [(filters, filter_level), *((size, constants.level_of(size)) for size in tensors)]
    by_level = {level.name: 0 for level in constants.levels}
    for size, level in moves:
        by_level[level.name] += size
    accesses = [(-(-8 * size // constants.access_bits), level) for size, level in moves]
    return LayerEnergy(
        record=record,
        compute=energy_of_counts(record.multiplications, record.additions, bits, constants),
        filters=filters,
        activations=sum(tensors),
        by_level=by_level,
        memory=PICO_TO_MICRO * sum(n * level.picojoules for n, level in accesses),
        memory_upper=PICO_TO_MICRO * sum(n * level.picojoules_upper for n, level in accesses),
    )


def _total(layers: Iterable[LayerEnergy], constants: Constants) -> LayerEnergy:
    layers = list(layers)
    return LayerEnergy(
        record=_total_record([layer.record for layer in layers]),
        compute=sum(layer.compute for layer in layers),
        filters=sum(layer.filters for layer in layers),
        activations=sum(layer.activations for layer in layers),
        by_level={
            level.name: sum(layer.by_level[level.name] for layer in layers)
            for level in constants.levels
        },
        memory=sum(layer.memory for layer in layers),
        memory_upper=sum(layer.memory_upper for layer in layers),
    )


def _total_record(records: Sequence[LayerRecord]) -> LayerRecord:
    return LayerRecord(
        name="total",
        type="",
        multiplications=sum(r.multiplications for r in records),
        additions=sum(r.additions for r in records),
        weights=sum(r.weights for r in records),
        reads=tuple(size for r in records for size in r.reads),
        writes=tuple(size for r in records for size in r.writes),
    )


def _bytes(numbers: int, bits: int) -> int:
    return -(-numbers * bits // 8)
