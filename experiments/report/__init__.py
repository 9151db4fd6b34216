"""What a run leaves for its reader: report.json for programs, report.md for people."""

from experiments.report.machine import environment
from experiments.report.writing import write

__all__ = ["environment", "write"]
