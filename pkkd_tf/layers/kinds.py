"""The adder layers."""

from pkkd_tf.layers.adder_conv2d import AdderConv2D
from pkkd_tf.layers.adder_dense import AdderDense
from pkkd_tf.layers.adder_depthwise_conv2d import AdderDepthwiseConv2D

ADDER_LAYERS = (AdderConv2D, AdderDepthwiseConv2D, AdderDense)
