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

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import pkkd_tf
from experiments import atomic, errors
from export import program
from export.program import ExportError
from export.tflite.interpreters import Network
from export.tflite.responses import portable
from pkkd_tf.ops.geometry import make_geometry
from pkkd_tf.optimizers.adder_sgd import adaptive_gradient
from pkkd_tf.quantization.placement import sources

try:
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs,
    )
except ImportError as missing:
    print(
        f"error: This program needs two more packages: pip install '.[tfmot]'. Received: {missing}",
        file=sys.stderr,
    )
    sys.exit(errors.EXIT_ERROR)

OUTPUT_CONFIG = default_8bit_quantize_configs.Default8BitOutputQuantizeConfig
TOLERANCE = 1e-4  # of twin and network, relative to the largest output
CONVOLUTION = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
# The arguments that the twin of a layer takes over.
ARGUMENTS = {
    "AdderConv2D": (*CONVOLUTION, "use_bias", "input_gradient"),
    "Add": (),
    "BatchNormalization": ("axis", "momentum", "epsilon"),
    "Conv2D": (*CONVOLUTION, "use_bias"),
    "Dense": ("units", "use_bias"),
    "Flatten": (),
    "GlobalAveragePooling2D": ("keepdims",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "ReLU": (),
    "ZeroPadding2D": ("padding",),
}


class AdderConv2D(tf_keras.layers.Conv2D):
    """`pkkd_tf.layers.AdderConv2D` for Keras 2; `for_conversion` makes TFLite's operators of it."""

    for_conversion = False

    def __init__(self, *args: Any, input_gradient: str = "clipped", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.input_gradient = input_gradient

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The adder response by `pkkd_tf.ops`."""
        kernel = tf.convert_to_tensor(self.kernel)
        window = self.strides, self.padding.upper(), self.dilation_rate, self.groups
        if self.for_conversion:
            outputs = portable(inputs, kernel, make_geometry(*window))
        else:
            outputs = pkkd_tf.ops.adder_conv2d(inputs, kernel, *window, self.input_gradient)
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialisable."""
        return {**super().get_config(), "input_gradient": self.input_gradient}


class AdderQuantizeConfig(tfmot.quantization.keras.QuantizeConfig):
    """8 bits for the filters, one symmetric range; the batch normalization after it has its own."""

    quantizer = quantizers.LastValueQuantizer(8, per_axis=False, symmetric=True, narrow_range=True)

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        """The filters."""
        return [(layer.kernel, self.quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Puts the rounded filters in the place of the filters."""
        (layer.kernel,) = quantize_weights

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        """None: what follows has its own."""
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        """Nothing to put."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """None: the response goes on into batch normalization unrounded."""
        return []

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}


OBJECTS = {c.__name__: c for c in (AdderConv2D, AdderQuantizeConfig, OUTPUT_CONFIG)}


def twin(model: keras.Model) -> tf_keras.Model:
    """A tf_keras network of the same layers, names and weights.

    Raises:
        ExportError: a layer has no twin.
    """
    tensors: dict[str, Any] = {}
    for layer in model.layers:
        kind, inputs = type(layer).__name__, [tensors[s.name] for s in sources(layer)]
        if kind == "InputLayer":
            tensors[layer.name] = tf_keras.Input(layer.batch_shape[1:], name=layer.name)
            continue
        if kind not in ARGUMENTS or getattr(layer, "data_format", "channels_last")[-4:] != "last":
            raise ExportError(
                f"A layer must be channels_last and one of {sorted(ARGUMENTS)} to have a twin. "
                f"Received: layer={layer.name!r}, type={kind}"
            )
        config = layer.get_config()
        arguments = {name: config[name] for name in ARGUMENTS[kind]}
        kinds = {**vars(tf_keras.layers), "AdderConv2D": AdderConv2D}
        copy = kinds[kind](name=layer.name, **arguments)
        tensors[layer.name] = copy(inputs if kind == "Add" else inputs[0])
        copy.set_weights(layer.get_weights())
    ends = [tensor._keras_history.operation.name for tensor in (*model.inputs, *model.outputs)]
    return tf_keras.Model(*(tensors[name] for name in ends), name=model.name)


def annotate(model: tf_keras.Model) -> tf_keras.Model:
    """The network with fake quantisation in it, as tensorflow-model-optimization places it."""

    def mark(layer: Any) -> Any:
        config = None  # the library's own
        if isinstance(layer, AdderConv2D):
            config = AdderQuantizeConfig()
        elif isinstance(layer, tf_keras.layers.BatchNormalization):
            follows = isinstance(layer.input._keras_history.layer, AdderConv2D)
            config = OUTPUT_CONFIG() if follows else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    with tf_keras.utils.custom_object_scope(OBJECTS):
        marked = tf_keras.models.clone_model(model, clone_function=mark)
        return tfmot.quantization.keras.quantize_apply(marked)


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
    network = program.load_network(options["model"])
    data = pkkd_tf.data.load(options["dataset"], options["data_dir"], seed=options["seed"])
    copy = twin(network)
    _check(network, copy, data.sample(16))
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
    atomic.write_files(output.parent, {output.name: converted})
    print(f"written: {output}, {len(converted):,} bytes")


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
