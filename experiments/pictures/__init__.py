"""The pictures of a run, drawn from its CSV files and its models."""

from experiments.pictures.comparison import comparison
from experiments.pictures.curves import learning_curves
from experiments.pictures.filters import filter_histograms, without_twin
from experiments.pictures.layers import layer_curves

__all__ = ["comparison", "filter_histograms", "layer_curves", "learning_curves", "without_twin"]
