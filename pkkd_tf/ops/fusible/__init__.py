"""The adder response as chains of elementwise operations, which XLA fuses into loops.

`pkkd_tf.ops.reference` broadcasts all terms of a tap and sums them: few operations, each over much
memory, and XLA keeps it so. Here terms are added one after the other, which XLA compiles to loops
that hold the sum in a register. Outside of XLA it works too, slowly.
"""

from pkkd_tf.ops.fusible.gradient import input_gradient
from pkkd_tf.ops.fusible.response import forward

__all__ = ["forward", "input_gradient"]
