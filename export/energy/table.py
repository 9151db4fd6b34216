"""The estimate as text: what is assumed, a row a layer, the totals side by side."""

from collections.abc import Mapping, Sequence

from export.energy.constants import Constants, Level
from export.energy.estimate import MEMORY_MODEL, LayerEnergy, NetworkEnergy

Networks = Mapping[str, Sequence[NetworkEnergy]]


def text(networks: Networks, constants: Constants, memory_model: str = MEMORY_MODEL) -> str:
    """All tables.

    Args:
        networks: name -> the network in every number format.
        constants: what the estimates were made with.
        memory_model: what they assume of memory.

    Returns:
        Lines that end with the totals.
    """
    parts = [_assumptions(networks, constants, memory_model)]
    parts += [_layers(name, energy) for name, all in networks.items() for energy in all]
    return "\n\n".join([*parts, _totals(networks), _reading(constants)])


def _assumptions(networks: Networks, constants: Constants, memory_model: str) -> str:
    formats = sorted({energy.format for all in networks.values() for energy in all})
    operations = [
        f"{name}: multiplication {constants.operations[name].multiply:g}, "
        f"addition {constants.operations[name].add:g}"
        for name in formats
    ]
    levels = [f"{level.name} {_range(level)}" for level in constants.levels]
    return "\n".join(
        [
            f"Constants, pJ: {constants.source}",
            *(f"  {line}" for line in operations),
            f"  access of {constants.access_bits} bits: {', '.join(levels)}",
            f"Memory model: {memory_model}",
        ]
    )


def _range(level: Level) -> str:
    upper = f"-{level.picojoules_upper:g}" if level.picojoules_upper != level.picojoules else ""
    return f"{level.picojoules:g}{upper}"


def _layers(name: str, energy: NetworkEnergy) -> str:
    levels = list(energy.total.by_level)
    header = ["layer", "multiplications", "additions", "filters, B", "activations, B"]
    header += [f"{level}, B" for level in levels] + ["compute, uJ", "with memory, uJ"]
    rows = [_row(layer) for layer in energy.layers if layer.filters or layer.with_memory]
    return f"{name}, {energy.format}, one image\n" + aligned(header, [*rows, _row(energy.total)])


def _row(layer: LayerEnergy) -> list[str]:
    record = layer.record
    counts = [record.multiplications, record.additions, layer.filters, layer.activations]
    counts += layer.by_level.values()
    energies = (layer.compute, layer.with_memory)
    return [record.name, *(f"{n:,}" for n in counts), *(f"{e:.3f}" for e in energies)]


def _totals(networks: Networks) -> str:
    header = ["total, one image", "format", "multiplications", "additions", "filters, B"]
    header += ["activations, B", "filters from"]
    header += ["compute only, uJ", "with memory, uJ", "upper end, uJ"]
    rows = []
    for energies in zip(*networks.values(), strict=True):
        for name, energy in zip(networks, energies, strict=True):
            rows.append([name, energy.format, *_total_cells(energy)])
        if len(energies) == 2:
            rows.append(_ratio_row(energies))
    return aligned(header, rows)


def _total_cells(energy: NetworkEnergy) -> list[str]:
    total, record = energy.total, energy.total.record
    counts = (record.multiplications, record.additions, total.filters, total.activations)
    energies = (total.compute, total.with_memory, total.compute + total.memory_upper)
    cells = [f"{n:,}" for n in counts]
    return [*cells, energy.filter_level, *(f"{e:.2f}" for e in energies)]


def _ratio_row(energies: Sequence[NetworkEnergy]) -> list[str]:
    """How many times less the second network takes, in each of the three energies."""
    first, second = (energy.total for energy in energies)
    pairs = [
        (first.compute, second.compute),
        (first.with_memory, second.with_memory),
        (first.compute + first.memory_upper, second.compute + second.memory_upper),
    ]
    cells = [f"{a / b:.2f} x" if b else "-" for a, b in pairs]
    formats = " / ".join(dict.fromkeys(energy.format for energy in energies))
    return ["ratio", formats, *[""] * 5, *cells]


def _reading(constants: Constants) -> str:
    last = constants.levels[-1]
    return (
        "compute only: operations times their energy, what papers of adder networks compare.\n"
        "with memory: plus the traffic above.\n"
        f"upper end: the same with the upper end of every range ({last.name} {_range(last)} pJ)."
    )


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a rule under its header; the first column is left-aligned, numbers right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
