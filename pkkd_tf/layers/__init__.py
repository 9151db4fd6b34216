"""Keras layers whose response is the negative L1 distance."""

from pkkd_tf.layers.adder_conv2d import AdderConv2D
from pkkd_tf.layers.adder_dense import AdderDense
from pkkd_tf.layers.adder_depthwise_conv2d import AdderDepthwiseConv2D
from pkkd_tf.layers.annealing import anneal_l2
from pkkd_tf.layers.common import is_adder_filter
from pkkd_tf.layers.kinds import ADDER_LAYERS

__all__ = [
    "ADDER_LAYERS",
    "AdderConv2D",
    "AdderDense",
    "AdderDepthwiseConv2D",
    "anneal_l2",
    "is_adder_filter",
]
