"""What the report of an export says, in sentences."""

from typing import Any

LEAST_AGREEMENT = 0.5  # of the images, below which the classes are no longer the network's
MOST_DIFFERENCE = 1.0  # outputs that are all 0 differ by as much


def sentences(report: dict[str, Any], images: int | None) -> list[str]:
    """What the file holds, and how near it is to the network.

    Args:
        report: of `export_tflite`.
        images: how many calibration images there were; None for a float file.
    """
    operators = ", ".join(f"{count} {name}" for name, count in report["operators"].items())
    lines = [f"operators: {operators}"]
    if not report["alive"]:
        lines.append("the outputs do not depend on the image, so comparing them says little")
    if images is None:
        return [*lines, f"outputs equal the network's to {report['difference']:.1e}"]
    return [
        *lines,
        f"outputs differ from the network's by {report['difference']:.1%}; "
        f"{report['agreement']:.1%} of {images} calibration images get the same class",
    ]


def warning(report: dict[str, Any]) -> str | None:
    """A sentence if an int8 file is of no use, by what it gives for the calibration images.

    Args:
        report: of `export_tflite` on an int8 file.

    Returns:
        None where the outputs are near enough; a class of outputs that do not depend on the image
        says nothing.
    """
    difference, agreement = report["difference"], report["agreement"]
    others = report["alive"] and agreement < LEAST_AGREEMENT
    if difference <= MOST_DIFFERENCE and not others:
        return None
    return (
        "warning: the file is of no use as it is, for on the calibration images its outputs differ "
        f"from the network's by {difference:.1%} and give the same class for {agreement:.1%}"
    )
