"""The adder response and its gradients."""

from pkkd_tf.ops.adder_conv2d import adder_conv2d

__all__ = ["adder_conv2d"]
