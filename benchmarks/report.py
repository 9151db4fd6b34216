"""The table and the picture of a benchmark."""

import json
import pathlib
import shlex
import sys
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.report import environment

COLORS = {"compiled adder": "#c1440e", "reference adder": "#9aa0a6", "convolution": "#2b6cb0"}


def write_record(folder: pathlib.Path, name: str, record: dict, text: str) -> None:
    """Writes `name`.json and, as it prints, `name`.md into `folder`, with command and commit."""
    origin = _origin()
    text = f"{text.rstrip()}\n\n`{origin['command']}`, commit {origin['commit']}.\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record | origin, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)


def _origin() -> dict[str, str]:
    """The command that runs, and the commit of the code."""
    program = getattr(sys.modules["__main__"], "__spec__", None)
    name = f"python -m {program.name}" if program else f"python {pathlib.Path(sys.argv[0]).name}"
    facts = environment()
    commit = facts["git_commit"] or "unknown"
    modified = " and changes" if facts["git_modified"] else ""
    return {"command": shlex.join([*name.split(), *sys.argv[1:]]), "commit": commit + modified}


def write(
    folder: pathlib.Path,
    name: str,
    machine: dict,
    rows: list[dict],
    implementations: Sequence[str],
    passes: Sequence[str],
) -> None:
    """Writes `name`.json, .md and .png into `folder` and prints the table."""
    text = table(machine, rows, implementations)
    write_record(folder, name, {"machine": machine, "rows": rows}, text)
    picture(machine, rows, implementations, passes).savefig(folder / f"{name}.png", dpi=130)


def table(machine: dict, rows: list[dict], implementations: Sequence[str]) -> str:
    """Markdown: milliseconds (Gop/s, MiB) of each implementation."""
    lines = [
        describe(machine),
        "",
        "Milliseconds (Gop/s; MiB of memory above the arguments). The last column is the compiled "
        "adder's time over the convolution's.",
        "",
        f"| layer | pass | {' | '.join(implementations)} | ratio |",
        "|---|---|" + "---|" * (len(implementations) + 1),
    ]
    for row in rows:
        layer = f"{row['network']}, batch {row['batch']}: {row['name']}"
        cells = " | ".join(_cell(row, i) for i in implementations)
        seconds = row["seconds"]
        ratio = seconds[implementations[0]] / seconds[implementations[-1]]
        lines.append(f"| {layer} | {row['pass']} | {cells} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def describe(machine: dict) -> str:
    """One line: what was measured on."""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return (
        f"{machine['device']}, {threads}, {machine['clock']}, {machine['kernels']} kernels, "
        f"TensorFlow {machine['tensorflow']}, {machine['date']}"
    )


def _cell(row: dict, implementation: str) -> str:
    seconds, memory = row["seconds"][implementation], row["bytes"][implementation]
    rate = row["operations"] / seconds / 1e9
    return f"{seconds * 1e3:.2f} ({rate:.1f}; {memory / 2**20:.0f})"


def picture(
    machine: dict, rows: list[dict], implementations: Sequence[str], passes: Sequence[str]
) -> plt.Figure:
    """Bars of Gop/s, a panel for each pass."""
    figure, axes = plt.subplots(1, len(passes), figsize=(13, 6), sharey=True, layout="constrained")
    for axis, name in zip(axes, passes):
        chosen = [row for row in rows if row["pass"] == name]
        height = 0.8 / len(implementations)
        for i, implementation in enumerate(implementations):
            rates = [r["operations"] / r["seconds"][implementation] / 1e9 for r in chosen]
            places = [place + i * height for place in range(len(chosen))]
            color = COLORS[implementation]
            axis.barh(places, rates, height * 0.9, color=color, label=implementation)
        axis.set_title(name)
        axis.set_xlabel("Gop/s")
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks([place + 0.4 - height / 2 for place in range(len(chosen))])
        axis.set_yticklabels([f"{r['network']}  {r['name']}" for r in chosen])
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(describe(machine))
    return figure
