"""Where, when and with what the figures were measured."""

from importlib.metadata import version
from typing import Any

from experiments.report import environment
from export.tflite import interpreters

KEPT = ("cpu", "logical_cores", "system", "date", "git_commit", "git_modified")


def collect() -> dict[str, Any]:
    """Machine and versions; what computes adders in TensorFlow does not matter here."""
    facts = environment()
    versions = {**facts["versions"], "TFLite interpreter": _interpreter()}
    return {"versions": versions, **{key: facts[key] for key in KEPT}}


def _interpreter() -> str:
    """The interpreter that ran the files, and its version."""
    if interpreters.interpreter_module().__name__.startswith("ai_edge_litert"):
        return f"LiteRT {version('ai-edge-litert')}"
    return f"TensorFlow {version('tensorflow')}"
