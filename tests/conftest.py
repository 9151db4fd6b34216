"""Two logical CPU devices, quiet logs, fixed seeds, and the path that computes the response."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
import tensorflow as tf

# Before TensorFlow starts its devices, or it is too late.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# What a GPU multiplies in 11 bits by default is compared with float64 here.
tf.config.experimental.enable_tensor_float_32_execution(False)

from pkkd_tf.ops import compiled, paths  # noqa: E402
from tests import delegate_library  # noqa: E402

NATIVE = ("custom_ops", "benchmarks", "packaging")  # beside what `delegate_library` skips
PATHS = ["reference", *(["compiled"] if compiled.is_available() else [])]


def pytest_collection_modifyitems(config, items):
    """Leaves out what needs native code where there is no compiler; the package works there."""
    if delegate_library.has_compiler():
        return
    native = [item for item in items if set(NATIVE) & set(item.path.parts)]
    config.hook.pytest_deselected(items=native)
    items[:] = [item for item in items if item not in native]


def pytest_collection_finish():
    """What imports and collection made stays: no later garbage collection looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=PATHS)
def path(request):
    """Runs a test once on every path that computes the adder response here."""
    with paths.use_path(request.param):
        yield request.param


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy with a replica on each logical CPU device.

    Without collectives: their keys are the process's, and a second strategy would clash with them.
    """
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)


@pytest.fixture(autouse=True)
def fixed_seeds():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
