"""Adder networks in TensorFlow and Keras, trained by progressive kernel based distillation."""

from pkkd_tf import layers, ops, optimizers

__all__ = ["layers", "ops", "optimizers"]
__version__ = "0.1.0"
