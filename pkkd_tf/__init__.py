"""Adder networks in TensorFlow and Keras, trained by progressive kernel based distillation."""

from pkkd_tf import ops

__all__ = ["ops"]
__version__ = "0.1.0"
