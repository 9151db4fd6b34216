"""ImageNet, or any folders of images.

    python -m experiments.imagenet --flagfile=flags/r50.cfg --data_dir=DIR --output=runs/r50

DIR: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, or tensorflow-datasets' imagenet2012.
"""

from experiments import errors, flags, programs


def main() -> None:
    """Runs the program with its flags."""
    options = flags.values()
    if options["smoke"]:
        options["image_size"] = 64
    programs.run("imagenet", "imagenet", options)


if __name__ == "__main__":
    flags.define(model="resnet50", epochs=150, weight_decay=1e-4)
    errors.run(main)
