"""CIFAR-10 and CIFAR-100 (--dataset=cifar100).

    python -m experiments.cifar --flagfile=flags/cifar10_r20.cfg --data_dir=DIR --output=runs/r20

DIR: a tensorflow-datasets folder, or one with {train,test}_{images,labels}.npy.
"""

from absl import flags as absl_flags

from experiments import errors, flags, programs


def main() -> None:
    """Runs the program with its flags."""
    options = flags.values()
    programs.run(options["dataset"], "cifar", options)


if __name__ == "__main__":
    absl_flags.DEFINE_enum("dataset", "cifar10", ("cifar10", "cifar100"), "Which of the two.")
    flags.define(model="resnet20")
    errors.run(main)
