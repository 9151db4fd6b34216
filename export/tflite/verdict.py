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
    for whose, output in _outputs(report):
        if not output["alive"]:
            lines.append(f"{whose} do not depend on the image, so comparing them says little")
        lines.append(_compared(whose, output, images))
    return lines


def warning(report: dict[str, Any]) -> str | None:
    """A sentence if an int8 file is of no use, by what it gives for the calibration images.

    Args:
        report: of `export_tflite` on an int8 file.

    Returns:
        None where the outputs are near enough; a class of outputs that do not depend on the image
        says nothing.
    """
    bad = [found for found in _outputs(report) if _is_useless(found[1])]
    if not bad:
        return None
    differences = ", ".join(
        f"its {whose} differ from the network's by {output['difference']:.1%} and give the same "
        f"class for {output['agreement']:.1%}"
        for whose, output in bad
    )
    return f"warning: the file is of no use as it is, for on the calibration images {differences}"


def _is_useless(output: dict[str, Any]) -> bool:
    others = output["alive"] and output["agreement"] < LEAST_AGREEMENT
    return others or not output["difference"] <= MOST_DIFFERENCE


def _outputs(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the numbers of each output are called in a sentence, and what was compared."""
    outputs = report["outputs"]
    if len(outputs) == 1:
        return [("outputs", *outputs.values())]
    return [(f"outputs {name!r}", output) for name, output in outputs.items()]


def _compared(whose: str, output: dict[str, Any], images: int | None) -> str:
    if images is None:
        return f"{whose} equal the network's to {output['difference']:.1e}"
    return (
        f"{whose} differ from the network's by {output['difference']:.1%}; "
        f"{output['agreement']:.1%} of {images} calibration images get the same class"
    )
