"""The names under which a network hands out its tensors."""

from typing import Any

import keras

from pkkd_tf.copies import output_structure
from pkkd_tf.quantization.rounding import SUFFIX, FakeQuantize

SINGLE = "logits"


def has_names(model: Any) -> bool:
    """Whether a model has outputs that `output_names` names: not structures in structures."""
    outputs = getattr(model, "outputs", None)
    paths = keras.tree.flatten_with_path(output_structure(model)) if outputs else []
    return bool(paths) and all(len(path) <= 1 for path, _ in paths)


def output_names(model: keras.Model) -> list[str]:
    """The name of each of `model.outputs`, which all files that are made of a network keep.

    Args:
        model: functional or built sequential model of one tensor, a list or a dict of tensors.

    Returns:
        The keys of a dict; of a list the names of the layers that make the tensors, followed by
        "_1", "_2" where one is taken; `"logits"` for one tensor. A network in rounded numbers has
        the names of the one that it was made of.

    Example:
        >>> output_names(pkkd_tf.models.build("digits_resnet"))
        ['logits']
    """
    if isinstance(output_structure(model), dict):
        return [path[-1] for path, _ in keras.tree.flatten_with_path(output_structure(model))]
    if len(model.outputs) == 1:
        return [SINGLE]
    names: list[str] = []
    for tensor in model.outputs:
        name = _maker(tensor._keras_history.operation)
        others = (f"{name}_{number}" for number in range(1, len(model.outputs)))
        names.append(next(own for own in (name, *others) if own not in names))
    return names


def _maker(operation: Any) -> str:
    """The name of the layer whose numbers an operation hands out."""
    rounds = isinstance(operation, FakeQuantize)
    return operation.name.removesuffix(SUFFIX) if rounds else operation.name


def named(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """The tensors of a call of `model` by their names."""
    return dict(zip(output_names(model), keras.tree.flatten(outputs), strict=True))


def report_of(outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a report says of all outputs together, the worst, and of each.

    Args:
        outputs: name of each output -> what was compared: `difference`, `alive`, `agreement`.

    Example:
        >>> report_of({"a": {"difference": 0.1}, "b": {"difference": 0.2}})["difference"]
        0.2
    """
    worst = {"difference": max, "agreement": min, "alive": min}
    kinds = next(iter(outputs.values()))
    together = {kind: worst[kind](own[kind] for own in outputs.values()) for kind in kinds}
    return {**together, "outputs": outputs}
