"""Handwritten digits, embedded: a distilled adder network in a minute or two on a laptop.

    python -m experiments.digits

Trains a convolutional teacher and a distilled adder student together, and (--compare_plain, on by
default here) the same student from the labels alone, on the 1,437 training images of scikit-learn's
8x8 digits; tests on the 360 others.
"""

from experiments import errors, flags, programs

if __name__ == "__main__":
    flags.define(
        model="digits_resnet",
        epochs=25,
        batch_size=64,
        monitor_every=22,
        compare_plain=True,
        verbose=2,
    )
    errors.run(lambda: programs.run("digits", "digits", flags.values()))
