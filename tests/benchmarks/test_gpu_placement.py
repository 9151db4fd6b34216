"""What a GPU would leave to the host, on graphs where that is known."""

import pytest
import tensorflow as tf

from benchmarks import gpu_placement

pytestmark = pytest.mark.skipif(
    not gpu_placement.has_gpu_kernels(), reason="this TensorFlow knows no GPU kernels"
)


def analysed(function, *specs):
    return gpu_placement.analyse(tf.function(function).get_concrete_function(*specs))


def test_a_gather_of_bytes_runs_on_the_host():
    spec = tf.TensorSpec((10, 3), tf.uint8)
    found = analysed(lambda x: tf.cast(tf.gather(x, [1, 2]), tf.float32), spec)
    assert dict(found.on_host) == {"GatherV2": 1} and not found.to_host


def test_32_bit_integers_are_added_in_the_hosts_memory_64_bit_ones_on_the_gpu():
    spec = tf.TensorSpec((10,), tf.float32)
    for dtype, copies in ((tf.int32, 1), (tf.int64, 0)):
        found = analysed(lambda x, d=dtype: tf.cast(tf.cast(x, d) + 1, tf.float32), spec)
        assert not found.on_host and len(found.to_host) == copies


def test_a_condition_on_a_computed_value_waits_for_it():
    def choose(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1.0, lambda: x)

    (copy,) = analysed(choose, tf.TensorSpec((10,), tf.float32)).to_host
    assert copy == ("Greater", "cond")


def test_what_a_called_function_does_counts():
    gather = tf.function(lambda x: tf.cast(tf.gather(x, [1]), tf.float32), autograph=False)
    found = analysed(lambda x: gather(x) * 2.0, tf.TensorSpec((10,), tf.uint8))
    assert dict(found.on_host) == {"GatherV2": 1}


def test_shapes_and_constants_cost_nothing():
    def scaled(x):
        size = tf.cast(tf.shape(x)[0], tf.float32)
        return x * tf.sqrt(tf.constant(2.0) + 3.0) / size

    found = analysed(scaled, tf.TensorSpec((None,), tf.float32))
    assert not found.on_host and not found.to_host


def test_explicit_host_operations_are_found():
    def scaled(x):
        with tf.device("CPU:0"):
            y = x * 2.0
        return y + x

    variable = tf.Variable(tf.ones(3))
    found = analysed(lambda: scaled(variable * 1.0))
    assert dict(found.on_host) == {"Mul": 1} and len(found.to_host) == 1
