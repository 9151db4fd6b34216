"""A trained adder network and its teacher as `.tflite` files, measured side by side, as a report.

`python -m export.demo --output=DIR` or `make deploy-demo`.
"""

from export.demo.files import VARIANTS, Variant, export_files
from export.demo.measuring import Figures, Setting, measure
from export.demo.report import write_report
from export.demo.runs import find_or_train

__all__ = [
    "VARIANTS",
    "Figures",
    "Setting",
    "Variant",
    "export_files",
    "find_or_train",
    "measure",
    "write_report",
]
