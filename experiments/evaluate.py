"""Accuracy of a network on the test images of a data set.

    python -m experiments.evaluate --model=runs/r20/student.keras --dataset=cifar10 --data_dir=DIR
    python -m experiments.evaluate --model=resnet20_cifar10 --data_dir=DIR

--model is a .keras file or the name of a network that comes with the package.
"""

from typing import Any

import numpy as np
from absl import flags as absl_flags

import pkkd_tf
from experiments import batches, errors, flags, networks

DATASETS = ("digits", "cifar10", "cifar100", "imagenet")


def accuracy(model: Any, data: Any, batch_size: int) -> float:
    """The share of test images whose largest logit is their label's."""
    hits = [
        np.argmax(model.predict_on_batch(images), -1) == labels.numpy()
        for images, labels in data.test(batches.of_test(data.num_test, batch_size))
    ]
    return float(np.concatenate(hits).mean())


def run(options: dict[str, Any]) -> float:
    """Measures, prints and returns the accuracy of the network that `options` name.

    Args:
        options: values of this program's flags.

    Raises:
        RunError, ValueError, OSError: with a message for the user.
    """
    network = networks.load(options["model"], "--model")
    name, folder = options["dataset"], options["data_dir"]
    size = networks.image_size(network, name, options["image_size"])
    data = pkkd_tf.data.load(name, folder, size, augmentation="none")
    networks.check_fits(network, data, "--model")
    found = accuracy(network, data, options["batch_size"])
    print(f"{100 * found:.2f} % of {data.num_test:,} test images")
    return found


def define() -> None:
    """Defines this program's flags."""
    flag = absl_flags
    flag.DEFINE_string("model", None, "A .keras file, or resnet20_cifar10.", required=True)
    flag.DEFINE_enum("dataset", "cifar10", DATASETS, "Whose test images.")
    flag.DEFINE_string("data_dir", None, "Folder of the data set.")
    flag.DEFINE_integer(
        "image_size", None, "Pixels; imagenet only; None: the network's.", lower_bound=8
    )
    flag.DEFINE_integer("batch_size", 250, "Images at once.", lower_bound=1)


if __name__ == "__main__":
    define()
    errors.run(lambda: run(flags.values()))
