"""Trained adder networks that come with the package."""

from pathlib import Path

import keras

FOLDER = Path(__file__).resolve().parent
# Accuracy on all test images of the data set, in %.
ACCURACY = {"resnet20_cifar10": 88.39}


def load_pretrained(name: str, include_top: bool = True) -> keras.Model:
    """Loads a trained adder network.

    `resnet20_cifar10`: ResNet-20, 88.39 % of CIFAR-10's test images. Trained for **25 epochs** on a
    processor, distilled from the logits of a teacher with 89.56 % (`python -m benchmarks.reproduce
    --rows=resnet20/kd --seeds=1 --epochs=25 --batch_size=128 --data_dir=DIR
    --output=runs/reproduce`): a network to try deployment with, far from the 92.96 % published for
    400 epochs. `python -m experiments.evaluate --model=resnet20_cifar10 --data_dir=DIR` measures
    it. Beside it lies the same network as an int8 TFLite file, `pretrained_path(name, "int8")`.

    Args:
        name: `"resnet20_cifar10"`.
        include_top: whether pooling and classifier are part of it; without them it is a backbone
            for other classes.

    Returns:
        Keras model from images (N, 32, 32, 3), preprocessed as `pkkd_tf.data.PREPROCESSING` says,
        to logits (N, 10), or without the top to features (N, 8, 8, 64); not compiled.

    Raises:
        ValueError: another name.

    Example:
        >>> network = load_pretrained("resnet20_cifar10")
        >>> pixels = keras.random.uniform((1, 32, 32, 3), 0, 255)
        >>> how = pkkd_tf.data.PREPROCESSING["cifar10"]
        >>> network((pixels * how["scale"] - how["mean"]) / how["std"]).shape
        TensorShape([1, 10])
    """
    network = keras.models.load_model(pretrained_path(name), compile=False)
    if not include_top:
        network = keras.Model(network.input, network.get_layer("pool").input, name=network.name)
    network.jit_compile = False  # XLA, Keras' choice on GPUs, has no compiled adder operations
    return network


def pretrained_path(name: str, form: str = "keras") -> str:
    """The file of a trained network.

    Args:
        name: as of `load_pretrained`.
        form: `"keras"`, or `"int8"`: the TFLite file, which needs the adder delegate.

    Returns:
        A path.

    Raises:
        ValueError: another name or form.

    Example:
        >>> interpreter = Interpreter(pretrained_path("resnet20_cifar10", "int8"), ...)
    """
    endings = {"keras": ".keras", "int8": "_int8.tflite"}
    if name not in ACCURACY or form not in endings:
        raise ValueError(
            f"`name` must be one of {sorted(ACCURACY)}, `form` one of {sorted(endings)}. "
            f"Received: name={name!r}, form={form!r}"
        )
    return str(FOLDER / f"{name}{endings[form]}")
