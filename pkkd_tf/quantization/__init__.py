"""Adder networks in few bits: shared ranges, calibration, fine-tuning with rounded numbers."""

from pkkd_tf.quantization.batch_norm import reestimate_batch_norm
from pkkd_tf.quantization.calibration import best_range, tensor_range
from pkkd_tf.quantization.dense import QuantizedAdderDense
from pkkd_tf.quantization.fake_quantize import fake_quantize, quantize_filters, quantize_weights
from pkkd_tf.quantization.filter_groups import group_filters
from pkkd_tf.quantization.integer import adder_conv2d_int8
from pkkd_tf.quantization.layers import QuantizedAdderConv2D, QuantizedAdderDepthwiseConv2D
from pkkd_tf.quantization.network import quantize_model, strip_quantization
from pkkd_tf.quantization.network_ranges import ranges, tensor_ranges
from pkkd_tf.quantization.placement import rounded_tensors
from pkkd_tf.quantization.products import (
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from pkkd_tf.quantization.rounding import FakeQuantize
from pkkd_tf.quantization.shared_range import SharedRange

__all__ = [
    "FakeQuantize",
    "QuantizedAdderConv2D",
    "QuantizedAdderDense",
    "QuantizedAdderDepthwiseConv2D",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedConv2DTranspose",
    "QuantizedDepthwiseConv2D",
    "SharedRange",
    "adder_conv2d_int8",
    "best_range",
    "fake_quantize",
    "group_filters",
    "quantize_filters",
    "quantize_model",
    "quantize_weights",
    "ranges",
    "reestimate_batch_norm",
    "rounded_tensors",
    "strip_quantization",
    "tensor_range",
    "tensor_ranges",
]
