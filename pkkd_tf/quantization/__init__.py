"""Adder networks in few bits: shared ranges, calibration, fine-tuning with rounded numbers."""

from pkkd_tf.quantization.calibration import best_range, tensor_range
from pkkd_tf.quantization.fake_quantize import fake_quantize, quantize_filters, quantize_weights

__all__ = [
    "best_range",
    "fake_quantize",
    "quantize_filters",
    "quantize_weights",
    "tensor_range",
]
