"""What the measured numbers say, in words that the numbers choose."""

from export.demo.measuring import Figures, FileFigures
from export.latency import ratios

SAME = 0.05  # a ratio this near to 1 is called the same


def latency(figures: Figures) -> str:
    """Where adders are faster than the convolutions of the same numbers, and where not.

    Args:
        figures: what was measured.

    Returns:
        One sentence; ratios are of the least times, which a busy machine disturbs least.
    """
    groups: dict[str, list[str]] = {"faster": [], "as fast": [], "slower": []}
    for name, file in figures.files.items():
        rival = file.exported.variant.rival
        if rival is not None:
            ratio = ratios(file.timing, figures.files[rival].timing)[1]
            groups[_word(ratio)].append(f"{name} ({times(ratio)} the time of {rival})")
    parts = [f"{word}: {', '.join(found) or 'nowhere'}" for word, found in groups.items()]
    return (
        "Measured on this machine with one thread, by the least times, the adder network is, "
        f"against its convolutional teacher, {'; '.join(parts)}."
    )


def energy(figures: Figures) -> str:
    """What the energy constants say of the same files; one sentence."""
    parts = []
    for name, file in figures.files.items():
        rival = file.exported.variant.rival
        if rival is not None:
            compute, memory = map(factor, energy_ratios(figures.files[rival], file))
            parts.append(f"{name} {compute} by operations alone, {memory} with memory")
    return (
        "Energy, against the same teacher, is computed from published constants of single "
        f"operations and not measured, least of all on this processor: {'; '.join(parts)}."
    )


def energy_ratios(first: FileFigures, second: FileFigures) -> tuple[float, float]:
    """How many times less the second one takes: by operations alone, and with memory."""
    a, b = first.energy.total, second.energy.total
    return a.compute / b.compute, a.with_memory / b.with_memory


def times(ratio: float) -> str:
    """A ratio to three digits that count."""
    return f"{ratio:#.3g}".rstrip(".") + " x"


def factor(ratio: float) -> str:
    """A ratio as "2.5 x less" or "3.1 x more"."""
    return f"{times(ratio)} less" if ratio >= 1 else f"{times(1 / ratio)} more"


def _word(ratio: float) -> str:
    if abs(ratio - 1) <= SAME:
        return "as fast"
    return "faster" if ratio < 1 else "slower"
