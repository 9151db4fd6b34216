"""Photos in class folders."""

import tensorflow as tf

from pkkd_tf.data.class_folders import ImageFiles
from pkkd_tf.data.indexed import IndexedPhotos, Photo


class FilePhotos(IndexedPhotos):
    """The photos of one split of class folders, looked up by their paths.

    Args:
        files: `ImageFiles`.
    """

    def __init__(self, files: ImageFiles) -> None:
        with tf.device("CPU"):
            self._paths = tf.constant(files.paths, tf.string)
            self._labels = tf.constant(files.labels)

    def __len__(self) -> int:
        return len(self._paths)

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """The paths."""
        return tf.gather(self._paths, rows)

    def describe(self, row: tf.Tensor, found: tf.Tensor) -> Photo:
        """The path, which is the name too, and the class folder's number."""
        return Photo(found, found, tf.gather(self._labels, row))

    def contents(self, source: tf.Tensor) -> tf.Tensor:
        """Reads the file."""
        return tf.io.read_file(source)
