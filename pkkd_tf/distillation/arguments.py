"""What the arguments of `PKKD` and of its `compile` must fulfil."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from pkkd_tf.distillation.feature_matching import FeatureMatching
from pkkd_tf.integers import integer

METHODS = ("pkkd", "kd", "plain")
TEACHER_MODES = ("progressive", "fixed")
EXECUTION_OPTIONS = ("run_eagerly", "steps_per_execution", "jit_compile")
STEP_OPTIONS = ("accumulate_steps", "skip_nonfinite", "recompute")
FEATURE_SHARE = 0.1
FEATURE_ARGUMENTS = ("beta", "feature_share", "matched_layers", "matching")
UNUSED = {
    "pkkd": (),
    "kd": FEATURE_ARGUMENTS,
    "plain": (*FEATURE_ARGUMENTS, "alpha", "temperature"),
}


class Rule(NamedTuple):
    """What arguments must fulfil.

    Attributes:
        text: the rule in words.
        names: of the values that take part, beside the teacher.
        holds: whether a model fulfils it.
    """

    text: str
    names: tuple[str, ...]
    holds: Callable[[Any], bool]


def _leaks(model: Any) -> bool:
    """Whether the feature loss has a gradient in the teacher."""
    return model.method == "pkkd" and model.matching.teacher_gradient


def _needs_beta(model: Any) -> bool:
    """Whether nothing is measured that the weight of the feature loss could be found by."""
    return model.method == "pkkd" and model.monitor_every == 0


RULES = (
    Rule(f"`method` must be one of {METHODS}", ("method",), lambda m: m.method in METHODS),
    Rule(
        '`teacher` must be given for every method but "plain", and not for that one',
        ("method",),
        lambda m: (m.teacher is None) == (m.method == "plain"),
    ),
    Rule(
        f"`teacher_mode` must be one of {TEACHER_MODES}",
        ("teacher_mode",),
        lambda m: m.teacher_mode in TEACHER_MODES,
    ),
    Rule("`alpha` must be at least 0", ("alpha",), lambda m: m.alpha >= 0),
    Rule("`temperature` must be above 0", ("temperature",), lambda m: m.temperature > 0),
    Rule("`beta` must be None or at least 0", ("beta",), lambda m: m.beta is None or m.beta >= 0),
    Rule(
        "`feature_share` must be in (0, 1)", ("feature_share",), lambda m: 0 < m.feature_share < 1
    ),
    Rule("`monitor_every` must be at least 0", ("monitor_every",), lambda m: m.monitor_every >= 0),
    Rule(
        "`matching.teacher_gradient` must be False for a fixed teacher",
        ("teacher_mode", "matching.teacher_gradient", "method"),
        lambda m: not (m.teacher_mode == "fixed" and _leaks(m)),
    ),
    Rule(
        "`monitor_every` must be above 0 unless `beta` is given",
        ("monitor_every", "beta", "method"),
        lambda m: m.beta is not None or not _needs_beta(m),
    ),
)


def check_arguments(model: Any) -> None:
    """Raises `ValueError` for the first bad argument: the rule and all values that take part."""
    for rule in RULES:
        if not rule.holds(model):
            values = [f"{name}={operator.attrgetter(name)(model)!r}" for name in rule.names]
            teacher = None if model.teacher is None else model.teacher.name
            raise ValueError(f"{rule.text}. Received: {', '.join(values)}, teacher={teacher!r}")


def check_effect(model: Any, matched_layers: Any) -> None:
    """Raises `ValueError` for an argument other than its default that the method does not use."""
    given = {
        "beta": model.beta is not None,
        "feature_share": model.feature_share != FEATURE_SHARE,
        "matched_layers": matched_layers is not None,
        "matching": vars(model.matching) != vars(FeatureMatching()),
        "alpha": model.alpha != 1,
        "temperature": model.temperature != 1,
    }
    for name in UNUSED[model.method]:
        if given[name]:
            value = matched_layers if name == "matched_layers" else getattr(model, name)
            raise ValueError(
                f"`{name}` must be left out where the method makes no use of it. "
                f"Received: {name}={value!r}, method={model.method!r}"
            )


def check_compile_arguments(optimizer: Any, accumulate_steps: Any, options: dict[str, Any]) -> int:
    """Returns `accumulate_steps`, Python's int.

    Raises `ValueError` without an optimizer, or for an option that would have no effect.
    """
    parts = integer(accumulate_steps)
    if parts is None or parts < 1:
        raise ValueError(
            "`accumulate_steps` must be an integer of at least 1. "
            f"Received: accumulate_steps={accumulate_steps!r}"
        )
    allowed = (*EXECUTION_OPTIONS, "auto_scale_loss")
    if optimizer is None or not set(options) <= set(allowed):
        raise ValueError(
            f"`compile` needs an optimizer and takes no options but {allowed}: the losses and "
            "metrics are PKKD's own. "
            f"Received: optimizer={optimizer!r}, options={sorted(options)}"
        )
    return parts


def check_optimizers(model: Any, optimizer: Any, teacher_optimizer: Any) -> None:
    """Raises `ValueError` for optimizers that would do nothing, or that Keras would mix up."""
    alone = not model.teacher_variables
    if teacher_optimizer is not None and (alone or teacher_optimizer is optimizer):
        raise ValueError(
            "`teacher_optimizer` must be another object than `optimizer`, and not be given where "
            "no teacher is trained. Received: "
            f"teacher_optimizer={teacher_optimizer!r}, method={model.method!r}, "
            f"teacher_mode={model.teacher_mode!r}"
        )
    both = [getattr(each, "inner_optimizer", each) for each in (optimizer, teacher_optimizer)]
    if model.teacher and any(isinstance(each, keras.optimizers.MultiOptimizer) for each in both):
        raise ValueError(
            "Beside a teacher an optimizer must be one for all variables: at the end of `fit` "
            "Keras asks a MultiOptimizer for the teacher's too. Received: "
            f"optimizer={optimizer!r}, teacher_optimizer={teacher_optimizer!r}"
        )
    averaging = any(getattr(each, "use_ema", False) for each in both)
    if averaging and not (alone and not model.pairs):
        raise ValueError(
            "`use_ema` must be off where more than the student's own weights are trained: Keras "
            "applies averages to a model's weights in their order. Received: use_ema=True, "
            f"method={model.method!r}, teacher_mode={model.teacher_mode!r}"
        )


def check_shared(model: Any) -> None:
    """Raises `ValueError` where both networks hold a variable that one of them trains."""
    theirs = model.teacher.weights if model.teacher else []
    both = {id(variable) for variable in model.student.weights} & {id(v) for v in theirs}
    trained = [*model.student_variables, *model.teacher_variables]
    shared = sorted({variable.path for variable in trained if id(variable) in both})
    if shared:
        raise ValueError(
            "Student and teacher must not share weights that are trained, else each changes the "
            "other: build both anew, or freeze what they share (`trainable=False`). "
            f"Received: shared={shared}"
        )
