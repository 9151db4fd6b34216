"""Full int8: every tensor between operators, every filter; see `export.tflite.int8.quantizer`."""

from export.tflite.int8.calibration_data import load_images
from export.tflite.int8.making import FORMAT, make
from export.tflite.int8.quantizer import quantize
from export.tflite.int8.reference import IntegerNetwork

__all__ = ["FORMAT", "IntegerNetwork", "load_images", "make", "quantize"]
