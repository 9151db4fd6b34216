"""Quantisation-aware training with tensorflow-model-optimization, on a Keras 2 twin.

    pip install '.[tfmot]'
    python -m export.tfmot_twin --model=student.keras --dataset=digits --steps=100 \
        --output=student.tflite

tensorflow-model-optimization knows Keras 2 alone. So this program, in a process of its own, builds
a tf_keras twin of the trained network, checks that it gives the same outputs, annotates it with a
`QuantizeConfig` for adder layers, trains some steps and converts it. Of the two ways to fewer bits
this is the lesser one (`experiments.quantize` is the other): filters and activations get a scale
each, so that the adder layers of the file compute in float32 between 8-bit tensors.
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import pkkd_tf
from experiments import errors, networks
from export import program, writing
from export.full_float32 import full_float32
from export.program import ExportError
from export.tflite.interpreters import Network
from pkkd_tf.data import ImageDataset
from pkkd_tf.optimizers.adder_sgd import adaptive_gradient

try:
    import tf_keras

    from export.tfmot_network import AdderConv2D, annotate, twin
except ImportError as missing:
    print(
        f"error: This program needs two more packages: pip install '.[tfmot]'. Received: {missing}",
        file=sys.stderr,
    )
    sys.exit(errors.EXIT_ERROR)

TOLERANCE = 1e-4  # of twin and network, relative to the largest output


def train(model: tf_keras.Model, batches: tf.data.Dataset, learning_rate: float) -> None:
    """SGD with AdderNet's adaptive learning rate for the adder filters, one step a batch."""
    optimizer = tf_keras.optimizers.SGD(learning_rate, momentum=0.9)
    adders = {id(kernel) for kernel in _adder_filters(model)}

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = pkkd_tf.distillation.losses.label_loss(labels, model(images, training=True))
        variables = model.trainable_variables
        gradients = [
            adaptive_gradient(gradient, 0.2) if id(variable) in adders else gradient
            for gradient, variable in zip(tape.gradient(loss, variables), variables)
        ]
        optimizer.apply_gradients(zip(gradients, variables))

    for images, labels in batches:
        step(images, labels)


def _adder_filters(model: tf_keras.Model) -> list[Any]:
    inner = [getattr(layer, "layer", layer) for layer in model.layers]
    names = {layer.name for layer in inner if isinstance(layer, AdderConv2D)}
    return [v for v in model.trainable_variables if v.name.split("/")[-2] in names]


def convert(model: tf_keras.Model) -> bytes:
    """The bytes of a `.tflite` file: 8-bit tensors where TFLite's own operators read them."""
    AdderConv2D.for_conversion = True
    try:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()
    finally:
        AdderConv2D.for_conversion = False


def accuracy(predict: Any, batches: tf.data.Dataset) -> float:
    """The share of images whose largest logit is their label's."""
    hits = [np.argmax(predict(x), -1) == y for x, y in batches.as_numpy_iterator()]
    return float(np.concatenate(hits).mean())


def run(options: dict[str, Any]) -> None:
    """Builds, trains and converts the twin as `options` (the flags by name) say."""
    output = Path(options["output"])
    if output.exists():
        raise ExportError(f"--output must be a new file. Received: output={output}")
    writing.check_writable(output)
    network = program.load_network(options["model"])
    data = pkkd_tf.data.load(options["dataset"], options["data_dir"], seed=options["seed"])
    networks.check_fits(network, data, "--model")
    copy = twin(network)
    _check(network, copy, data.sample(16))
    converted = _fine_tuned(copy, data, options)
    writing.write_files(output.parent, {output.name: converted})
    print(f"written: {output}, {len(converted):,} bytes")


def _fine_tuned(copy: tf_keras.Model, data: ImageDataset, options: dict[str, Any]) -> bytes:
    """The file of a twin after its fine-tuning; says how accurate each step is."""
    batch, steps = options["batch_size"], options["steps"]

    def report(step: str, predict: Any) -> None:
        found = accuracy(predict, data.test(batch))
        print(f"{step:24s} {100 * found:6.2f} % of {data.num_test:,} images", flush=True)

    report("float", copy.predict_on_batch)
    model = annotate(copy)
    epochs = -(-steps // data.steps_per_epoch(batch))
    train(model, data.train(batch, epochs).take(steps), options["learning_rate"])
    report("trained, fake quantised", model.predict_on_batch)
    converted = convert(model)
    report(".tflite file", Network(converted))
    return converted


@full_float32()
def _check(network: keras.Model, copy: tf_keras.Model, images: np.ndarray) -> None:
    expected, got = (np.asarray(m(images, training=False)) for m in (network, copy))
    difference = np.abs(got - expected).max() / np.abs(expected).max()
    if not difference <= TOLERANCE:
        raise ExportError(
            "The twin must give the network's outputs. Received: relative difference "
            f"{difference:.3g} of at most {TOLERANCE:g}"
        )


def define() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("model", None, "A trained network, student.keras.", required=True)
    flags.DEFINE_string("output", None, "The .tflite file to write.", required=True)
    flags.DEFINE_enum("dataset", "digits", ("digits", "cifar10", "cifar100"), "What to train on.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_integer("steps", 100, "Of fine-tuning.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Images a step.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 0.002, "Of SGD.", 0.0)
    flags.DEFINE_integer("seed", 0, "Of the order of the images.", lower_bound=0)


if __name__ == "__main__":
    define()
    program.run(lambda: run(flags.FLAGS.flag_values_dict()))
