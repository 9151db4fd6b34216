"""Adder networks in TensorFlow and Keras, trained by progressive kernel based distillation."""

from pkkd_tf import distillation, layers, ops, optimizers
from pkkd_tf.distillation import PKKD

__all__ = ["PKKD", "distillation", "layers", "ops", "optimizers"]
__version__ = "0.1.0"
