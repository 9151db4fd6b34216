"""Twenty steps of a small network, alone, on replicas or between workers; saves its weights.

python worker_program.py FILE NORM STRATEGY
"""

import sys

import keras
import numpy as np

import pkkd_tf
from experiments import devices
from experiments.workers import Workers
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.optimizers import AdderSGD

STEPS, BATCH = 20, 16
NORMS = {"batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}


def network(kind, norm):
    conv = AdderConv2D if kind == "adder" else keras.layers.Conv2D
    x = inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.ReLU()(NORMS[norm]()(x))
    x = conv(4, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(NORMS[norm](name="norm")(x))
    x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def train(strategy, norm):
    """Trains by logits; returns the model after as many steps, and the logs of its test."""
    workers = Workers(strategy)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = pkkd_tf.PKKD(
            network("adder", norm), network("convolution", norm), "kd", monitor_every=0
        )
        model.compile(AdderSGD(0.02, weight_decay=5e-4))
    data = pkkd_tf.data.load("digits", limit_train=STEPS * BATCH)
    batches = workers.distribute(lambda shard: data.train(BATCH, shard=shard), BATCH)
    model.fit(batches, steps_per_epoch=STEPS, verbose=0)
    test = workers.distribute(lambda shard: data.test(32, shard=shard), 32)
    return model, model.evaluate(test, verbose=0, return_dict=True)


if __name__ == "__main__":
    file, norm, strategy = sys.argv[1:]
    strategy = devices.make_strategy(strategy.removeprefix("--strategy="))
    model, logs = train(strategy, norm)
    workers = Workers(strategy)
    own = {f"weight_{i:03d}": w for i, w in enumerate(model.get_weights())}
    np.savez(f"{file}.{workers.index}.npz", **own, **{f"log_{k}": v for k, v in logs.items()})
    workers.wait()
