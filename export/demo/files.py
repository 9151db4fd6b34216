"""The `.tflite` files of the report."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.tflite import export_tflite, int8
from pkkd_tf.data import ImageDataset

if TYPE_CHECKING:
    from export.demo.measuring import Setting

CALIBRATION_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Variant:
    """One file.

    Attributes:
        name: what the report calls it.
        role: "student", with adders, or "teacher", with convolutions.
        format: of `export.tflite`.
        rival: name of the convolutional file in the same numbers; None for one itself.
    """

    name: str
    role: str
    format: str
    rival: str | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        kind = "float32" if self.role == "teacher" and self.format == "portable" else self.format
        return f"{self.role}_{kind}.tflite"


VARIANTS = (
    Variant("CNN float32", "teacher", "portable"),
    Variant("ANN float32, custom_op", "student", "custom_op", "CNN float32"),
    Variant("ANN float32, portable", "student", "portable", "CNN float32"),
    Variant("CNN int8", "teacher", "int8"),
    Variant("ANN int8", "student", "int8", "CNN int8"),
)


@dataclasses.dataclass(frozen=True)
class Exported:
    """A file that was written, and what `export.tflite.export_tflite` said of it."""

    variant: Variant
    path: Path
    report: dict[str, Any]


def export_files(
    setting: "Setting", data: ImageDataset, output: str | os.PathLike
) -> list[Exported]:
    """Writes every variant, each compared with its network.

    Args:
        setting: where the networks are.
        data: its training images calibrate int8.
        output: folder.

    Returns:
        `Exported`, in the order of `VARIANTS`.

    Raises:
        ExportError: as `export.tflite.export_tflite`; there is no delegate, above all.
    """
    return list(_export(setting, data, Path(output)))


def _export(setting: "Setting", data: ImageDataset, output: Path) -> Iterable[Exported]:
    images = data.sample(min(CALIBRATION_IMAGES, data.num_train))
    for variant in VARIANTS:
        path = output / variant.file
        used = images if variant.format == int8.FORMAT else None
        report = export_tflite(
            setting.network(variant.role),
            path,
            variant.format,
            overwrite=True,
            calibration_images=used,
        )
        print(f"{variant.name}: {path} ({report['bytes']:,} bytes)", flush=True)
        yield Exported(variant, path, report)
