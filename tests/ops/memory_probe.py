"""Peak memory of one forward and backward pass of a 3x3 layer; a program of its own.

    python memory_probe.py reference 256 32 16 16    path, batch, image size, channels, outputs

Prints the bytes the pass takes on top of its inputs. TensorFlow's allocator keeps what it once
had, so each measurement needs a fresh process. Linux: the resident set's peak, reset before.
"""

import re
import sys

import tensorflow as tf

from pkkd_tf.ops import adder_conv2d, paths


def resident(which):
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(rf"{which}:\s+(\d+)", status.read()).group(1))


def tensors(batch, size, channels, outputs):
    """Image, filters, gradient: ones, which are made without temporaries to keep."""
    yield tf.ones([batch, size, size, channels])
    yield tf.ones([3, 3, channels, outputs])
    yield tf.ones([batch, size, size, outputs])


def peak_of(*shape):
    @tf.function
    def step(x, f, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, f])
            y = adder_conv2d(x, f, padding="SAME")
        with tf.control_dependencies([y]):  # as in every training, where it follows from y
            dy = tf.identity(dy)
        return y, tape.gradient(y, [x, f], dy)

    step(*tensors(1, 4, 2, 2))  # loads the libraries
    arguments = list(tensors(*shape))
    step.get_concrete_function(*arguments)
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    step(*arguments)
    return resident("VmHWM") - before


if __name__ == "__main__":
    paths.set_path(sys.argv[1])
    print(peak_of(*map(int, sys.argv[2:])))
