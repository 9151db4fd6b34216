"""The processes that train one network together, as each of them sees the others."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from experiments.errors import RunError, WorkerLost
from pkkd_tf.distillation import PKKD

BATCH_NORM = keras.layers.BatchNormalization

# What TensorFlow raises in the others when one of the workers is gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Workers:
    """One process, or all that a cluster has.

    Only the chief writes files. What is decided for all of them (a stop, a checkpoint) is decided
    together: `any`, `agree` and `wait` must be called by every worker at the same place.

    Args:
        strategy: the run's `tf.distribute.Strategy`.

    Attributes:
        count: int. Processes.
        index: int. This one's number.
        is_chief: bool. Whether this is the one that writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            cluster = resolver.cluster_spec().as_dict()
            before = len(cluster.get("chief", ())) if resolver.task_type == "worker" else 0
            self.count = sum(map(len, cluster.values()))
            self.index = before + resolver.task_id
        self.is_chief = self.index == 0
        self._sum = tf.function(self._sum_of_all)
        self._average: Any = None  # of the run's one model

    @property
    def shared(self) -> bool:
        """Whether there is more than one process."""
        return self.count > 1

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one of them."""
        return self._total([float(flag)])[0] > 0 if self.shared else flag

    def wait(self) -> None:
        """Returns when all of them have come here."""
        self.any(False)

    def on_chief(self, task: Callable[[], Any]) -> Any:
        """Runs `task` in the chief alone, the others wait; returns its result, None in them.

        Raises:
            RunError, ValueError, OSError: what the task raised; a RunError in the others.
        """
        result = error = None
        if self.is_chief:
            try:
                result = task()
            except (RunError, ValueError, OSError) as raised:
                error = raised
        if not self.any(error is not None):
            return result
        raise error or RunError(
            "The first worker must write for all of them, and could not: it says why. "
            f"Received: worker {self.index} of {self.count}"
        )

    def agree(self, values: list[int], what: str) -> None:
        """Raises RunError in all of them unless they have the same numbers."""
        if not self.shared:
            return
        numbers = [float(value) for value in values]
        means = [total / self.count for total in self._total(numbers)]
        if self.any(means != numbers):
            raise RunError(
                f"All workers must find the same {what}: --output must be a folder they share. "
                f"Received: {values} here, {means} on average"
            )

    def distribute(self, make: Callable[..., tf.data.Dataset], batch: int) -> Any:
        """The batches of `make(shard)`, each cut into one piece a replica.

        Args:
            make: makes the batches of one worker, given `shard=(index, count)`.
            batch: images of a batch, of all workers together.
        """
        # A TPU's hosts are fed by one process here; its replicas get their pieces from TensorFlow.
        if not self.shared:
            batches = make(shard=(0, 1))
            if batches.cardinality() == tf.data.UNKNOWN_CARDINALITY:  # broken images are left out
                _expect_the_end()
            return batches
        each = batch // self.strategy.num_replicas_in_sync
        _expect_the_end()  # workers end together, whoever has the last image

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            place = context.input_pipeline_id, context.num_input_pipelines
            pieces = make(shard=place).rebatch(each)
            return pieces.prefetch(tf.data.AUTOTUNE)

        return self.strategy.distribute_datasets_from_function(of_worker)

    def average_statistics(self, model: PKKD) -> None:
        """Gives every replica the mean of the moving statistics that each has of its own images.

        Their moving means are linear in what they saw, so it does not matter how often.
        """
        if self.strategy.num_replicas_in_sync == 1:
            return
        if self._average is None:
            self._average = self._averaging(model)
        self._average()

    def _averaging(self, model: PKKD) -> Any:
        networks = [n for n in (model.student, model.teacher) if n is not None]
        norms = [x for n in networks for x in n.layers if isinstance(x, BATCH_NORM)]
        variables = [v.value for x in norms for v in (x.moving_mean, x.moving_variance)]

        if not variables:
            return lambda: None

        def average() -> None:
            context = tf.distribute.get_replica_context()
            values = [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for variable, mean in zip(variables, means):
                variable.assign(mean)

        return tf.function(lambda: self.strategy.run(average))

    def lost(self, error: tf.errors.OpError) -> WorkerLost:
        """What to say when TensorFlow can not reach another worker."""
        lines = str(error).splitlines()
        reason = next((line for line in lines if "abort" in line), lines[0])[:300]
        return WorkerLost(
            "All workers must run to the end; one is gone, so this one stops. Start all of them "
            f"again with --resume. Received: worker {self.index} of {self.count}: {reason}"
        )

    def _total(self, numbers: list[float]) -> list[float]:
        return self._sum(tf.constant(numbers, tf.float64)).numpy().tolist()

    def _sum_of_all(self, numbers: tf.Tensor) -> tf.Tensor:
        """Each worker's first replica counts."""

        def own() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            locals_ = self.strategy.num_replicas_in_sync // self.count
            first = context.replica_id_in_sync_group % locals_ == 0
            return tf.where(first, numbers, tf.zeros_like(numbers))

        return self.strategy.reduce("SUM", self.strategy.run(own), axis=None)


def _expect_the_end() -> None:
    """Keras takes an end that it could not foresee for missing batches, and warns of it."""
    warnings.filterwarnings("ignore", "Your input ran out of data")
