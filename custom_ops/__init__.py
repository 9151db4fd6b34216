"""Native code: adder kernels and the shells that bring them to TensorFlow and TFLite."""
