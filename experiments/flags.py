"""The flags that every training program shares."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from experiments.errors import RunError
from experiments.placement import PLACEMENTS
from pkkd_tf import models
from pkkd_tf.distillation import feature_matching
from pkkd_tf.ops.adder_conv2d import INPUT_GRADIENTS

METHODS = ("pkkd", "kd", "plain", "cnn")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
ON_NAN = ("stop", "skip")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
MOST_SEED = 2**32 - 1  # NumPy's
AUGMENTATIONS = ("none", "standard", "randaugment", "mixup", "cutmix", "randomerasing")
FEATURES = ("beta", "feature_share", "matched_layers", "kernel", "teacher_sign", "response")
FEATURES += ("student_alignment", "teacher_side", "teacher_gradient")
TAUGHT = ("alpha", "temperature", "teacher")
ADDERS = ("eta", "input_gradient", "l2_anneal")


class Need(NamedTuple):
    """What flags need to have an effect.

    Attributes:
        names: the flags.
        rule: what they need, in words.
        holds: whether the values of all flags fulfil it.
    """

    names: Sequence[str]
    rule: str
    holds: Callable[[dict[str, Any]], bool]


NEEDS = (
    Need(FEATURES, "--method=pkkd", lambda o: o["method"] == "pkkd"),
    Need(TAUGHT, "--method=pkkd or kd", lambda o: o["method"] in ("pkkd", "kd")),
    Need(ADDERS, "an adder network", lambda o: o["method"] != "cnn"),
    Need(
        ("compare_plain",),
        "another --method than plain",
        lambda o: o["method"] != "plain" or not o["compare_plain"],
    ),
    Need(("input_gradient",), "no --student", lambda o: o["student"] is None),
    Need(("feature_share",), "no --beta", lambda o: o["beta"] is None),
    Need(("teacher_sign",), "--kernel=exponential", lambda o: o["kernel"] == "exponential"),
    Need(("autoclustering",), "no --jit_compile", lambda o: not o["jit_compile"]),
    Need(("autoclustering",), "--logical_devices=1", lambda o: o["logical_devices"] == 1),
    Need(("logical_devices",), "--strategy=mirrored", lambda o: o["strategy"] == "mirrored"),
)


def define(**defaults: Any) -> None:
    """Defines the shared flags; `defaults` are those in which a program differs."""
    _define_run()
    _define_data()
    _define_training()
    _define_distillation()
    for name, value in defaults.items():
        flags.FLAGS.set_default(name, value)


def check_effect(options: dict[str, Any], needs: Sequence[Need] = NEEDS) -> None:
    """Raises `RunError` for a flag that differs from its default and would do nothing."""
    for names, rule, holds in needs:
        given = [name for name in names if options[name] != flags.FLAGS[name].default]
        if given and not holds(options):
            found = {n: options[n] for n in ("method", "beta", "kernel", *given) if n in options}
            received = ", ".join(f"{name}={value}" for name, value in found.items())
            raise RunError(f"--{given[0]} needs {rule}, else it does nothing. Received: {received}")


def values() -> dict[str, Any]:
    """What the program's own flags are set to, by name."""
    return {name: flags.FLAGS[name].value for name in sorted(_names())}


def _names() -> list[str]:
    modules = flags.FLAGS.flags_by_module_dict()
    return [
        f.name for m, fs in modules.items() if "experiments" in m or m == "__main__" for f in fs
    ]


def _define_run() -> None:
    flags.DEFINE_string("output", None, "Folder for what the run writes; None: runs/DATE_...")
    flags.DEFINE_bool("resume", False, "Go on from the last checkpoint in --output.")
    flags.DEFINE_bool("requeue", False, "--resume if there is a checkpoint, else start anew.")
    flags.DEFINE_float("checkpoint_seconds", 30.0, "At least, between epochs that are saved.", 0.0)
    flags.DEFINE_bool("smoke", False, "A minute instead of hours: a few small batches, all steps.")
    flags.DEFINE_integer("seed", 0, "Of weights, order and augmentation.", 0, MOST_SEED)
    flags.DEFINE_enum("strategy", "auto", STRATEGIES, "auto: mirrored where there are more GPUs.")
    flags.DEFINE_integer(
        "logical_devices", 1, "Parts of the processor for --strategy=mirrored without GPU.", 1, 64
    )
    flags.DEFINE_bool(
        "sync_batch_norm", False, "Statistics over all replicas; --monitor_every=1 or 0."
    )
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Keras' dtype policy.")
    flags.DEFINE_bool("deterministic", False, "Deterministic kernels on GPUs too; slower there.")
    flags.DEFINE_integer("verbose", 1, "0 silent, 1 progress bar, 2 a line an epoch.", 0, 2)
    flags.DEFINE_bool("tensorboard", False, "Also write OUTPUT/tensorboard.")
    flags.DEFINE_bool("compare_plain", False, "Also train the student alone, in OUTPUT/plain.")


def _define_data() -> None:
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_integer("num_classes", None, "Checked against the data.", lower_bound=2)
    flags.DEFINE_integer("image_size", None, "Pixels; imagenet only.", lower_bound=8)
    flags.DEFINE_multi_enum("augmentation", ["standard"], AUGMENTATIONS, "May be repeated.")
    flags.DEFINE_bool("skip_broken_images", False, "Count and skip images that do not decode.")
    flags.DEFINE_enum("data_placement", "auto", PLACEMENTS, "auto: on the one GPU that trains.")
    flags.DEFINE_integer("limit_train", None, "Use that many training images.", lower_bound=1)


def _define_training() -> None:
    flags.DEFINE_enum("model", None, sorted(models.MODELS), "Network of student and teacher.")
    flags.DEFINE_string("student", None, "A trained student.keras to start from; else at random.")
    flags.DEFINE_enum("method", "pkkd", METHODS, "kd: logits only; plain: labels only; cnn.")
    flags.DEFINE_integer("epochs", 400, "Passes over the training images.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 256, "Global: over all replicas.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 0.1, "At the start; falls to 0 by a cosine.", 0.0)
    flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0.0, 0.999999)
    flags.DEFINE_float("weight_decay", 5e-4, "On all parameters, before the momentum.", 0.0)
    flags.DEFINE_float("eta", 0.2, "Of the adaptive local learning rate.", 1e-12)
    flags.DEFINE_enum("input_gradient", "clipped", INPUT_GRADIENTS, "Of the adder layers.")
    flags.DEFINE_float(
        "l2_anneal", 0.0, "Part of the steps that l2 turns into l1 in; 0: none.", 0, 1
    )
    flags.DEFINE_integer("accumulate_steps", 1, "Parts that a batch is worked off in.", 1)
    flags.DEFINE_bool("recompute", False, "Recompute residual blocks' activations: less memory.")
    flags.DEFINE_enum("on_nan", "stop", ON_NAN, "stop: end the run; skip: leave that step out.")
    flags.DEFINE_integer(
        "steps_per_execution", 1, "Steps a call of TensorFlow; a divisor of an epoch's.", 1
    )
    flags.DEFINE_bool(
        "jit_compile", False, "XLA for the whole step, by stock operations that it fuses."
    )
    flags.DEFINE_bool("autoclustering", False, "XLA for all but the adder operations; on GPUs.")


def _define_distillation() -> None:
    flags.DEFINE_string("teacher", None, "A trained teacher.keras, then held; else progressive.")
    flags.DEFINE_float("alpha", 1.0, "Weight of the teacher's logits.", 0.0)
    flags.DEFINE_float("temperature", 1.0, "Of the softmax in that part.", 1e-6)
    flags.DEFINE_float("beta", None, "Fixed weight of the feature loss; else --feature_share.", 0.0)
    flags.DEFINE_float("feature_share", 0.1, "Feature loss's share of the gradient.", 1e-6, 0.99)
    flags.DEFINE_list("matched_layers", ["blocks"], "blocks, all, or names of layers.")
    flags.DEFINE_enum("kernel", "exponential", feature_matching.KERNELS, "Similarity kernel.")
    flags.DEFINE_enum("teacher_sign", "+1", ("+1", "-1"), "Sign in the teacher's exponent.")
    flags.DEFINE_enum("response", "batch_norm", feature_matching.RESPONSES, "What the kernel sees.")
    flags.DEFINE_bool("student_alignment", True, "1x1 convolution after the student's kernel.")
    flags.DEFINE_enum(
        "teacher_side", "fixed", feature_matching.TEACHER_SIDES, "Of the feature loss."
    )
    flags.DEFINE_bool("teacher_gradient", False, "Let the feature loss change the teacher.")
    flags.DEFINE_integer("monitor_every", 50, "Steps from one measurement to the next.", 0)
