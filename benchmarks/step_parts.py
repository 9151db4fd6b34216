"""Which part of a training step an operation belongs to, and the tables of a recorded step."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks import xplane
from benchmarks.report import describe

TOP = 15
STEP = "StatefulPartitionedCall/"  # what the names of all operations of a step begin with
XLA = "compiled by XLA"  # with --autoclustering
PARTS = (  # the first that is found in an operation's name
    ("monitor", r"\bmonitor/"),
    ("optimizer", r"\bupdate/"),
    ("batch: crop, flip, normalise", r"\binput/"),
    ("metrics", r"\bmetrics/"),
    ("feature loss", r"\bfeatures/"),
    ("student, backward", r"gradient_tape/student/|student_backward/"),
    ("teacher, backward", r"gradient_tape/teacher/|teacher_backward/"),
    ("student, forward", r"\bstudent/"),
    ("teacher, forward", r"\bteacher/"),
    ("losses", r"\blosses/"),
)


def part(name: str) -> str:
    """Which part of the step an operation belongs to."""
    if re.match(r"cluster_\d", name):
        return XLA
    if not name.startswith(STEP):
        return "input pipeline"
    return next((p for p, pattern in PARTS if re.search(pattern, name)), "other")


def work(name: str, kind: str) -> str:
    """Which kind of work it does."""
    where = part(name)
    if kind.startswith("Mem"):
        return "copies"
    if kind.startswith("Pkkd"):
        return "adder kernels"
    if "Conv2D" in kind or "MatMul" in kind:
        return "convolutions"
    if where == "feature loss":
        return "feature loss, but for convolutions"
    if where in ("optimizer", "input pipeline", "monitor", XLA):
        return where
    return "batch normalization" if re.search(r"_norm\d*(_\d+)?/", name) else "all else"


def tables(space: Any, steps: int) -> dict[str, Any]:
    """Milliseconds and operations a step by part, work and kind; the share of idle time."""
    plane = xplane.device_plane(space)
    found = xplane.events(plane)
    launched = sum(len(xplane.events(p)) for p in space.planes if p.name == xplane.HOST)
    span = max(e.end for e in found) - min(e.begin for e in found)
    groups = {
        "parts": lambda e: part(e.name),
        "work": lambda e: work(e.name, e.kind),
        "kinds": lambda e: e.kind,
    }
    tables = {name: _summed(found, key, steps) for name, key in groups.items()}
    tables["kinds"] = tables["kinds"][:TOP]
    idle = 1 - xplane.busy(found) / span
    return {"device": plane.name, "idle": idle, "launched": launched / steps, **tables}


def _summed(found: list[xplane.Event], key: Callable, steps: int) -> list[dict[str, Any]]:
    """Of each operation the fastest of its runs counts: a busy machine then changes little."""
    runs: dict[tuple[str, str], list[xplane.Event]] = {}
    for event in found:
        runs.setdefault((event.name, event.kernel), []).append(event)
    spent: Counter = Counter()
    counts: Counter = Counter()
    for same in runs.values():
        spent[key(same[0])] += len(same) * min(event.own for event in same)
        counts[key(same[0])] += len(same)
    total = sum(spent.values())
    return [
        {
            "name": name,
            "ms": 1e3 * value / xplane.PER_SECOND / steps,
            "share": value / total,
            "operations": counts[name] / steps,
        }
        for name, value in spent.most_common()
    ]


def markdown(record: dict[str, Any]) -> str:
    """The tables of every placement."""
    lines = [describe(record["machine"]) + f", load {record['machine']['load']:.1f}.", ""]
    lines += [f"`{record['command']}`", ""]
    for profiled in record["profiles"]:
        lines += _section(profiled, record)
    return "\n".join(lines)


def _section(profiled: dict[str, Any], record: dict[str, Any]) -> list[str]:
    lines = [
        f"## Batches made on the {profiled['placement']}",
        "",
        f"{record['model']}, {record['method']}, batch {record['batch']}: "
        f"{1e3 * profiled['seconds']:.0f} ms a step (median of {record['steps']}, not recorded). "
        f"Recorded on {profiled['device']}; {profiled['launched']:.0f} operations a step; "
        f"{100 * profiled['idle']:.1f} % of the time none ran.",
    ]
    if "measuring" in profiled:
        row = profiled["measuring"]
        lines.append(
            f"A step that measures, every {record['monitor_every']}th: "
            f"{row['operations']:.0f} operations more, {100 * row['share']:.0f} % of that step."
        )
    if "on_host" in profiled:
        copies = ", ".join(f"{a} → {b}" for a, b in profiled["to_host"]) or "none"
        lines.append(
            "By TensorFlow's registered kernels a GPU would leave to the host: "
            f"{profiled['on_host'] or 'nothing'}; tensors that would go back to it: {copies}."
        )
    for title in ("parts", "work", "kinds"):
        lines += ["", f"| {title} | ms | share | operations |", "|---|---|---|---|"]
        lines += [
            f"| {r['name']} | {r['ms']:.1f} | {100 * r['share']:.1f} % | {r['operations']:.0f} |"
            for r in profiled[title]
        ]
    return [*lines, ""]
