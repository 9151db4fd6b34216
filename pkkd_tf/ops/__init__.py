"""The adder response, its gradients, and the choice of the code that computes them."""

from pkkd_tf.ops.adder_conv2d import adder_conv2d
from pkkd_tf.ops.paths import get_path, set_path, use_path, why_reference

__all__ = ["adder_conv2d", "get_path", "set_path", "use_path", "why_reference"]
