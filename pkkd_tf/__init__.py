"""Adder networks in TensorFlow and Keras, trained by progressive kernel based distillation."""

from pkkd_tf import analysis, data, distillation, layers, models, ops, optimizers, quantization
from pkkd_tf.analysis import count_operations, summary
from pkkd_tf.distillation import PKKD
from pkkd_tf.pretrained import load_pretrained

__all__ = [
    "PKKD",
    "analysis",
    "count_operations",
    "data",
    "distillation",
    "layers",
    "load_pretrained",
    "models",
    "ops",
    "optimizers",
    "quantization",
    "summary",
]
__version__ = "0.1.0"
