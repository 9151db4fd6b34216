"""Export to TFLite: builtin operators alone, or one custom operator a layer."""

from export.tflite.converter import FORMATS, convert
from export.tflite.exporter import export_tflite
from export.tflite.interpreters import Network, load_delegate

__all__ = [
    "FORMATS",
    "Network",
    "convert",
    "export_tflite",
    "load_delegate",
]
