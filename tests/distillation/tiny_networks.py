"""Networks of two adder layers on 8x8 images, and steps of training without the graph's trace."""

import functools

import keras
import numpy as np

from pkkd_tf import PKKD
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.optimizers import AdderSGD

CLASSES = 5
NORMS = {
    "batch": functools.partial(keras.layers.BatchNormalization, momentum=0.9),
    "layer": keras.layers.LayerNormalization,
}


def network(kind, norm="batch", width=4, names=("conv1", "conv2"), sizes=(3, 1), **options):
    """Stem, layers of `kind` of these sizes with their norms, pool and classifier."""
    conv = AdderConv2D if kind == "adder" else keras.layers.Conv2D
    x = inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(width, 3, padding="same", name="stem")(x)
    x = keras.layers.ReLU()(NORMS[norm](name="stem_norm")(x))
    for name, size in zip(names, sizes):
        x = conv(width, size, padding="same", use_bias=False, name=name, **options)(x)
        x = keras.layers.ReLU()(NORMS[norm](name=f"{name}_norm")(x))
    x = keras.layers.Dense(CLASSES, name="head")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Flatten(dtype="float32", name="logits")(x))


def pkkd(student=None, teacher=None, method="pkkd", shape=None, **options):
    """A `PKKD` whose student and teacher start from seeds of their own."""
    keras.utils.set_random_seed(0)
    if method != "plain":
        teacher = teacher or network("convolution", **(shape or {}))
    keras.utils.set_random_seed(1)
    student = student or network("adder", **(shape or {}))
    keras.utils.set_random_seed(2)
    return PKKD(student, teacher, method=method, **options)


def compiled(*args, optimizer=None, run_eagerly=True, execution=None, **options):
    """`pkkd` with optimizers, running eagerly."""
    model = pkkd(*args, **options)
    optimizer = optimizer or AdderSGD(0.05, weight_decay=5e-4)
    model.compile(optimizer, run_eagerly=run_eagerly, **(execution or {}))
    return model


def batch(size=16, seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(size=(size, 8, 8, 1)).astype("float32")
    return images, random.integers(0, CLASSES, size)


def fit(model, steps, size=16, **options):
    """`steps` training steps on batches of `size`, always in the same order."""
    images, labels = batch(size * steps)
    return model.fit(images, labels, batch_size=size, shuffle=False, verbose=0, **options)


def values(variables):
    """Copies, by path; a path that occurs twice gets a number."""
    copies = {}
    for variable in variables:
        copies[f"{variable.path} {len(copies)}"] = keras.ops.convert_to_numpy(variable).copy()
    return copies


def changed(before, after):
    """The names whose values differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}
