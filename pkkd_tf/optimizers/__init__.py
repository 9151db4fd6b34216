"""Optimizers for adder networks."""

from pkkd_tf.optimizers.adder_sgd import AdderSGD, adaptive_gradient

__all__ = ["AdderSGD", "adaptive_gradient"]
