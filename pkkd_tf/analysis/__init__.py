"""What a network costs: multiplications, additions, weights."""

from pkkd_tf.analysis.operations import count_operations
from pkkd_tf.analysis.records import LayerOperations
from pkkd_tf.analysis.summary import Totals, summary

__all__ = ["LayerOperations", "Totals", "count_operations", "summary"]
