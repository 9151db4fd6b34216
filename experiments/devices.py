"""Strategy, precision and determinism of a run, set before anything is built."""

import functools
import os
from typing import Any

import keras
import tensorflow as tf

from experiments import cluster
from experiments.errors import RunError
from pkkd_tf import ops


def set_up(options: dict[str, Any]) -> tf.distribute.Strategy:
    """Seeds everything, sets the dtype policy and returns the distribution strategy."""
    # First: a worker's devices and its cluster must be set before TensorFlow starts.
    split_processor(options["logical_devices"])
    strategy = make_strategy(options["strategy"])
    keras.utils.set_random_seed(options["seed"])
    if options["autoclustering"]:
        cluster_by_xla()
    if options["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_dtype_policy(options["precision"])
    replicas, parts = strategy.num_replicas_in_sync, options["accumulate_steps"]
    if options["batch_size"] % (replicas * parts):
        raise ValueError(
            "The global batch size must be a multiple of the number of replicas times "
            f"accumulate_steps. Received: batch_size={options['batch_size']}, "
            f"replicas={replicas}, accumulate_steps={parts}"
        )
    return strategy


def split_processor(parts: int) -> None:
    """Makes `parts` devices of the processor, so that one machine can try several replicas.

    Raises:
        RunError: there is a GPU, which would train instead, or TensorFlow has started already.
    """
    if parts == 1:
        return
    if gpus := tf.config.list_physical_devices("GPU"):
        names = ", ".join(gpu.name for gpu in gpus)
        raise RunError(
            "--logical_devices splits the processor: hide the GPUs by CUDA_VISIBLE_DEVICES=-1. "
            f"Received: logical_devices={parts}, GPUs={names}"
        )
    (processor,) = tf.config.list_physical_devices("CPU")
    pieces = [tf.config.LogicalDeviceConfiguration()] * parts
    try:
        tf.config.set_logical_device_configuration(processor, pieces)
    except RuntimeError as error:
        raise RunError(
            "--logical_devices must be set before TensorFlow starts. "
            f"Received: logical_devices={parts}, {error}"
        ) from error


def cluster_by_xla() -> None:
    """Has XLA compile whatever it can of a step; the adder operations, unknown to it, stay.

    TensorFlow finds the clusters when it prepares a graph, and on a processor only where
    TF_XLA_FLAGS holds --tf_xla_cpu_global_jit (measured: slower than its own operations there).

    Raises:
        RunError: there is no GPU, and no such flag.
    """
    flags = os.environ.get("TF_XLA_FLAGS", "")
    asked = {"--tf_xla_cpu_global_jit", "--tf_xla_cpu_global_jit=true"} & set(flags.split())
    if not tf.config.list_logical_devices("GPU") and not asked:
        raise RunError(
            "--autoclustering needs a GPU, or TF_XLA_FLAGS=--tf_xla_cpu_global_jit. "
            f"Received: no GPU, TF_XLA_FLAGS={flags!r}"
        )
    tf.config.optimizer.set_jit("autoclustering")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """`auto` is `mirrored` where there is more than one GPU, else one device.

    Raises:
        RunError: there is no cluster or no TPU to use, or a cluster that would not be used.
    """
    if name == "multi_worker":
        return _multi_worker()
    if name == "tpu":
        return _tpu()
    cluster.check_alone(name)
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "mirrored":
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _mirrored(*(device.name for device in devices))
    return tf.distribute.get_strategy()


@functools.cache  # another one would number its sums over replicas from the start again
def _mirrored(*names: str) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(names)


@functools.cache  # TensorFlow joins a cluster once in a process
def _multi_worker() -> tf.distribute.Strategy:
    cluster.describe()
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    tf.get_logger().setLevel("WARNING")  # else a line for every sum over the workers
    return tf.distribute.MultiWorkerMirroredStrategy()


@functools.cache
def _tpu() -> tf.distribute.Strategy:
    """All cores of the TPU that TPU_NAME names, or of this machine; stock operations alone."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            "--strategy=tpu needs a TPU: on this machine, or the one that TPU_NAME names. "
            f"Received: TPU_NAME={os.environ.get('TPU_NAME')}, {reason}"
        ) from error
    ops.set_path("reference")
    return tf.distribute.TPUStrategy(resolver)
