"""The commands that repeat every figure of the report."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from custom_ops import build_delegate
from export.demo.files import CALIBRATION_IMAGES, VARIANTS, Variant
from export.tflite import int8

if TYPE_CHECKING:
    from export.demo.measuring import Setting


def text(output: str | os.PathLike, setting: "Setting") -> str:
    """Lines for a shell, with a comment before each group.

    Args:
        output: folder of the report.
        setting: what was measured.
    """
    paths = {variant.name: shown(Path(output) / variant.file) for variant in VARIANTS}
    lines = ["# everything, accuracies included", _everything(output, setting)]
    lines += ["", "# the delegate", "python -m custom_ops.build_delegate"]
    for variant in VARIANTS:
        lines += ["", f"# {variant.name}: file, bytes", _export(variant, paths, setting)]
    lines += ["", "# latency", _latency(list(paths.values()), setting)]
    for variant in VARIANTS:
        if variant.rival is not None:
            pair = [f"--model={paths[variant.name]}", f"--compare={paths[variant.rival]}"]
            lines += ["", f"# energy: {variant.name} beside {variant.rival}"]
            lines.append(_python("export.energy", *pair))
    return "\n".join(lines)


def shown(path: str | os.PathLike) -> str:
    """A path as the reader types it: from the current folder where it lies in it."""
    relative = os.path.relpath(path)
    return os.fspath(path) if relative.startswith("..") else relative


def _python(module: str, *arguments: str) -> str:
    return shlex.join(["python", "-m", module, *arguments])


def _everything(output: str | os.PathLike, setting: "Setting") -> str:
    arguments = [f"--output={shown(output)}", f"--student={shown(setting.student)}"]
    arguments += [f"--teacher={shown(setting.teacher)}", f"--dataset={setting.dataset}"]
    arguments += [f"--data_dir={shown(setting.data_dir)}"] if setting.data_dir else []
    arguments += [f"--num_runs={setting.num_runs}"]
    arguments += [f"--limit_test={setting.limit_test}"] if setting.limit_test else []
    return _python("export.demo", *arguments)


def _export(variant: Variant, paths: dict[str, str], setting: "Setting") -> str:
    arguments = [f"--model={shown(setting.network(variant.role))}"]
    arguments += [f"--output={paths[variant.name]}", f"--format={variant.format}", "--overwrite"]
    if variant.format == int8.FORMAT:
        arguments += [f"--dataset={setting.dataset}", f"--calibration_images={CALIBRATION_IMAGES}"]
        arguments += [f"--calibration_data={shown(setting.data_dir)}"] if setting.data_dir else []
    return _python("export.tflite", *arguments)


def _latency(paths: list[str], setting: "Setting") -> str:
    arguments = [f"--graph={paths[0]}", *(f"--compare={path}" for path in paths[1:])]
    arguments.append(f"--external_delegate_path={shown(build_delegate.LIBRARY)}")
    arguments += ["--num_threads=1", f"--num_runs={setting.num_runs}", "--warmup_runs=10"]
    return _python("export.benchmark", *arguments)
