"""Teacher and student as a program's flags say."""

from typing import Any

import keras

from experiments import networks
from experiments.errors import RunError
from experiments.workers import BATCH_NORM
from pkkd_tf import models
from pkkd_tf.distillation import PKKD, FeatureMatching
from pkkd_tf.layers import ADDER_LAYERS, anneal_l2
from pkkd_tf.optimizers import AdderSGD


def make_model(data: Any, steps: int, options: dict[str, Any], prepare_batch: Any = None) -> PKKD:
    """Builds and compiles student and teacher.

    Args:
        data: the data set, of `pkkd_tf.data.load`.
        steps: of an epoch.
        options: values of the flags in `experiments.flags`, by name.
        prepare_batch: as of `PKKD.compile`.

    Returns:
        The compiled `PKKD`.

    Raises:
        RunError, ValueError: flags that do not go together.
    """
    student, teacher = _networks(data, options)
    model = PKKD(
        student,
        teacher,
        method="plain" if options["method"] == "cnn" else options["method"],
        **_distillation(student, options),
        teacher_mode="fixed" if options["teacher"] else "progressive",
        monitor_every=options["monitor_every"],
        name="training",
    )
    model.compile(
        _optimizer(steps, options),
        steps_per_execution=options["steps_per_execution"],
        jit_compile=options["jit_compile"],
        accumulate_steps=options["accumulate_steps"],
        skip_nonfinite=options["on_nan"] == "skip",
        recompute=options["recompute"],
        prepare_batch=prepare_batch,
    )
    if options["l2_anneal"]:
        until = max(1, round(options["l2_anneal"] * steps * options["epochs"]))
        anneal_l2(model.student, model.optimizer, until)
    return model


def _networks(data: Any, options: dict[str, Any]) -> tuple[keras.Model, keras.Model | None]:
    """Student and teacher, if there is one."""

    def build(kind: str, role: str) -> keras.Model:
        size = data.num_classes, data.image_shape
        return models.build(options["model"], kind, *size, options["input_gradient"], name=role)

    if options["student"]:
        student = _trained_student(data, options)
    else:
        student = build("convolution" if options["method"] == "cnn" else "adder", "student")
    teacher = None
    if options["method"] in ("pkkd", "kd"):
        given = options["teacher"]
        teacher = networks.load(given, "--teacher") if given else build("convolution", "teacher")
    for network in filter(None, (student, teacher)):
        for layer in network._flatten_layers():
            if isinstance(layer, BATCH_NORM):
                layer.synchronized = options["sync_batch_norm"]
    return student, teacher


def _trained_student(data: Any, options: dict[str, Any]) -> keras.Model:
    """The network to start from."""
    student = networks.load(options["student"], "--student")
    networks.check_fits(student, data, "--student")
    adders = any(isinstance(layer, ADDER_LAYERS) for layer in student._flatten_layers())
    if adders == (options["method"] == "cnn"):
        raise RunError(
            "--student must be a network with adder layers; for --method=cnn, one without. "
            f"Received: student={options['student']}, method={options['method']}"
        )
    return student


def _matching(options: dict[str, Any]) -> FeatureMatching:
    names = "kernel", "response", "student_alignment", "teacher_side", "teacher_gradient"
    sign = int(options["teacher_sign"])
    return FeatureMatching(teacher_sign=sign, **{name: options[name] for name in names})


def _distillation(student: keras.Model, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `PKKD` that the method makes use of."""
    found: dict[str, Any] = {}
    if options["method"] in ("kd", "pkkd"):
        found |= {name: options[name] for name in ("alpha", "temperature")}
    if options["method"] == "pkkd":
        found |= {name: options[name] for name in ("beta", "feature_share")}
        found["matched_layers"] = _matched_layers(student, options["matched_layers"])
        found["matching"] = _matching(options)
    return found


def _matched_layers(student: keras.Model, asked: list[str]) -> list[str] | None:
    """Layer names, `all`, or `blocks`: the last adder layer of every residual block."""
    if asked == ["all"]:
        return None
    if asked != ["blocks"]:
        return asked
    return models.block_ends(student)


def _optimizer(steps: int, options: dict[str, Any]) -> AdderSGD:
    rate, epochs = options["learning_rate"], options["epochs"]
    return AdderSGD(
        keras.optimizers.schedules.CosineDecay(rate, steps * epochs),
        momentum=options["momentum"],
        weight_decay=options["weight_decay"],
        eta=options["eta"],
    )
