"""Data sets that tensorflow-datasets has prepared."""

from pathlib import Path
from typing import Any

import tensorflow as tf

TFRECORD, ARRAY_RECORD = "tfrecord", "array_record"


def prepared_folder(root: Path, name: str) -> Path | None:
    """The newest ROOT/NAME/VERSION that tensorflow-datasets has prepared, or None."""
    found = [path.parent for path in root.glob(f"{name}/*/dataset_info.json")]
    return max(found, key=_version, default=None)


def _version(folder: Path) -> list[int]:
    return [int(number) for number in folder.name.split(".") if number.isdigit()]


def open_prepared(folder: Path) -> tuple[Any, str]:
    """The builder of a folder NAME/VERSION, and its file format: TFRECORD or ARRAY_RECORD.

    Raises:
        ValueError: its description is damaged, or the files are of another format.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # of several libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            "A prepared tensorflow-datasets folder must hold dataset_info.json and features.json "
            f"as they were written. Received: {folder}, {reason}"
        ) from error
    file_format = builder.info.file_format.value
    if file_format not in (TFRECORD, ARRAY_RECORD):
        raise ValueError(
            "A prepared tensorflow-datasets folder must hold TFRecord or array_record files; "
            "prepare it with `--file_format=tfrecord` or `--file_format=array_record`. "
            f"Received: {folder}, file_format={file_format!r}"
        )
    return builder, file_format


def parse_photo(features: Any, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(encoded image, file name, int32 label) of a record of ImageNet."""
    import tensorflow_datasets as tfds

    skip = {"image": tfds.decode.SkipDecoding()}
    example = features.deserialize_example(record, decoders=skip)
    return example["image"], example["file_name"], tf.cast(example["label"], tf.int32)
