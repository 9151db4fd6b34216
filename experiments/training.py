"""One run of any program: data, networks, fit, and what is left in the output folder."""

import importlib.util
from pathlib import Path
from typing import Any

import pkkd_tf
from experiments import devices, executions, fitting, placement, results
from experiments.checkpoints import Checkpoints, Position
from experiments.errors import RunError
from experiments.folders import check_writable
from experiments.identity import FREE, NEUTRAL
from experiments.model_making import make_model
from experiments.workers import LOST, Workers

SMOKE = {"epochs": 1, "batch_size": 8}


def run(dataset: str, program: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Trains one network as `options` (the flags by name) say.

    Returns its report; None in workers other than the first, which write nothing.

    Args:
        dataset: a name `pkkd_tf.data.load` knows.
        program: the program's name, for the report.
        options: values of the flags in `experiments.flags`.

    Raises:
        RunError, ValueError, OSError: with a message for the user.
    """
    if options["smoke"]:
        options = _smoke(options)
    workers = Workers(devices.set_up(options))
    try:
        return _run(dataset, program, options, workers)
    except LOST as error:
        if not workers.shared:
            raise
        raise workers.lost(error) from error


def _smoke(options: dict[str, Any]) -> dict[str, Any]:
    """The same run on a few small batches, still to be had in as many parts as it is worked off."""
    parts = options["accumulate_steps"] * max(options["logical_devices"], 1)
    batch = parts * -(-SMOKE["batch_size"] // parts)
    short = {name: min(2, options[name]) for name in ("monitor_every", "steps_per_execution")}
    return {**options, **SMOKE, **short, "batch_size": batch, "limit_train": 4 * batch}


def _run(
    dataset: str, program: str, options: dict[str, Any], workers: Workers
) -> dict[str, Any] | None:
    folder = Path(options["output"])
    resume = options["resume"] or (options["requeue"] and _has_checkpoint(folder))
    workers.on_chief(lambda: _check_folder(folder, resume))
    data = load_data(dataset, options)
    steps = data.steps_per_epoch(options["batch_size"])
    executions.check(options["steps_per_execution"], steps)
    if options["tensorboard"] and not importlib.util.find_spec("tensorboard"):
        raise RunError("--tensorboard needs `pip install tensorboard`. Received: no such package")
    source, prepare_batch = placement.place(data, options, workers.strategy)
    options = {**options, "data_placement": "device" if prepare_batch else "host"}
    with workers.strategy.scope():
        model = make_model(data, steps, options, prepare_batch)
    identity = {k: v for k, v in options.items() if k not in FREE and NEUTRAL.get(k, ...) != v}
    checkpoints = Checkpoints(folder / "checkpoints", {"dataset": dataset, **identity}, FREE)
    start = (checkpoints.restore(model) if resume else None) or Position(0, 0)
    workers.agree([*start, steps], "checkpoint and data")
    history = fitting.fit(model, source, steps, checkpoints, start, folder, options, workers)
    arguments = folder, program, options, data, model, history
    return workers.on_chief(lambda: results.write(*arguments))


def load_data(dataset: str, options: dict[str, Any]) -> Any:
    """Opens the data set that the flags name."""
    limit = options["limit_train"]
    return pkkd_tf.data.load(
        dataset,
        data_dir=options["data_dir"],
        image_size=options["image_size"],
        num_classes=options["num_classes"],
        augmentation=tuple(options["augmentation"]),
        seed=options["seed"],
        skip_broken_images=options["skip_broken_images"],
        limit_train=limit,
    )


def _check_folder(folder: Path, resume: bool) -> None:
    check_writable(folder)
    used = _has_checkpoint(folder) or (folder / "report.json").is_file()
    if used and not resume:
        raise RunError(
            "--output must be a new folder, or --resume be given to go on with the run in it. "
            f"Received: output={folder}"
        )
    if resume and not _has_checkpoint(folder):
        raise RunError(
            "--resume needs a checkpoint in --output. "
            f"Received: output={folder}, which holds no checkpoints/epoch_*.json"
        )


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("epoch_*.json"))
