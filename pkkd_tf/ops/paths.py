"""Which code computes the adder response: the stock TensorFlow operations or the compiled op."""

from typing import Any

import tensorflow as tf

from pkkd_tf.ops import reference


def path_for(dtype: tf.DType) -> Any:
    """The module whose `forward` and `input_gradient` serve tensors of `dtype`."""
    del dtype
    return reference
