"""array_record files, in which every record can be read by its number."""

import functools
import os
import resource
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pkkd_tf.data.indexed import IndexedPhotos, Photo
from pkkd_tf.data.prepared import parse_photo

# Records are read one by one, and by several threads at once.
_OPTIONS = {
    "options": "readahead_buffer_size:0,max_parallelism:0",
    "file_reader_buffer_size": 2**15,
}


class ArrayRecords:
    """The records of several array_record files by number, as if they were one.

    A file is opened when the first of its records is read, and closed again when more than half
    of the files that this process may have open are.

    Args:
        paths: sequence of str. The files.
        lengths: sequence of int. Records of each, as the data set's description states them.

    Raises:
        ValueError: the package array_record is not there.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], lengths: Sequence[int]) -> None:
        self._reader = _reader_class()
        self._paths, self._lengths = [os.fspath(path) for path in paths], list(lengths)
        self._ends = np.cumsum(self._lengths)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._opened = functools.lru_cache(max(1, most // 2))(self._open)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The records of some numbers. May be called by several threads at once.

        Args:
            rows: integer array of shape (n,), each in 0..len - 1.

        Returns:
            object array of bytes, of shape (n,).

        Raises:
            ValueError: a file is not there or not as it was written; the text names it.
        """
        records = np.empty(len(rows), object)
        for i, row in enumerate(rows):
            file = int(np.searchsorted(self._ends, row, side="right"))
            first = self._ends[file] - self._lengths[file]
            records[i] = self._record(file, int(row - first))
        return records

    def _record(self, file: int, number: int) -> bytes:
        try:
            return self._opened(file).read([number])[0]
        except RuntimeError as error:
            raise ValueError(_damaged(self._paths[file], str(error))) from error

    def _open(self, file: int) -> Any:
        path, length = self._paths[file], self._lengths[file]
        if not os.path.isfile(path):
            raise ValueError(_damaged(path, "no file"))
        reader = self._reader(path, **_OPTIONS)
        if reader.num_records() != length:  # of a torn file 0, and reading may give empty records
            raise ValueError(_damaged(path, f"{reader.num_records()} records instead of {length}"))
        return reader


class ArrayRecordPhotos(IndexedPhotos):
    """The photos of one split of a data set that tensorflow-datasets prepared as array_record.

    Records are read in Python, which other threads go on beside, and parsed by TensorFlow.

    Args:
        split: a split of the prepared data set's `info.splits`.
        features: its `info.features`.
    """

    def __init__(self, split: Any, features: Any) -> None:
        self._records = ArrayRecords(split.filepaths, split.shard_lengths)
        self._features = features

    def __len__(self) -> int:
        return len(self._records)

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """The records."""
        return tf.ensure_shape(tf.numpy_function(self._records.read, [rows], tf.string), rows.shape)

    def describe(self, row: tf.Tensor, found: tf.Tensor) -> Photo:
        """Parses the record."""
        return Photo(*parse_photo(self._features, found))

    def contents(self, source: tf.Tensor) -> tf.Tensor:
        """The source itself, the image as it stood in the record."""
        return source


def _reader_class() -> Any:
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise ValueError(
            "array_record files need the package array_record: `pip install array_record`, or "
            f"prepare the data set with `--file_format=tfrecord`. Received: {error}"
        ) from error
    return ArrayRecordReader


def _damaged(path: str, found: str) -> str:
    return (
        "Every array_record file must be as it was written; prepare the data set again. "
        f"Received: {path}, {found}"
    )
