"""How many steps one call of TensorFlow executes: a whole number of calls makes an epoch."""

import math

import keras

from experiments.errors import RunError


def check(number: int, steps: int) -> None:
    """Raises `RunError` unless `number` steps a call make exactly the `steps` of an epoch.

    Keras would round the calls up: an epoch would take batches of the next one.
    """
    if steps % number:
        divisors = ", ".join(str(n) for n in range(1, steps + 1) if steps % n == 0)
        raise RunError(
            "--steps_per_execution must divide the steps of an epoch. Received: "
            f"steps_per_execution={number}, {steps} steps, whose divisors are {divisors}"
        )


def use(model: keras.Model, number: int, steps: int) -> None:
    """Has `model.fit` take `steps` steps an epoch exactly, at most `number` of them a call.

    What is left of an epoch in which a run was stopped may be no multiple of `number`.

    Args:
        model: a compiled model.
        number: wanted steps a call.
        steps: steps of each epoch to come.
    """
    fitting = math.gcd(number, steps)
    if fitting != model.steps_per_execution:
        model.steps_per_execution = fitting
        model.make_train_function(force=True)  # the old ones hold the old number
        model.make_test_function(force=True)
