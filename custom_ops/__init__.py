"""Native code of pkkd_tf: adder kernels, and the shells that bring them to TensorFlow and TFLite."""
