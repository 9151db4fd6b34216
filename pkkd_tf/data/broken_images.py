"""What happens to image files that do not decode."""

import os
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class BrokenImages:
    """Decodes the first sound image of a few and keeps account of the broken ones.

    Args:
        skip: bool. Whether broken images are counted and passed over; otherwise the first one
            ends the pipeline with an error that names it.
    """

    def __init__(self, skip: bool):
        self.skip = skip
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._names)

    def first_sound(
        self, decode_one: Callable, name_of: Callable, candidates: int, required: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes candidate after candidate until one works.

        Args:
            decode_one: maps the number of a candidate to a uint8 image of shape (None, None, 3).
            name_of: maps the number of a candidate to its path or name, a string.
            candidates: int. How many there are.
            required: bool. Whether it is an error that none of the candidates decodes.

        Returns:
            (number of the candidate that was decoded, its image); the number equals the number of
            candidates when none could be decoded.

        Raises:
            InvalidArgumentError: at iteration, for a broken image unless it may be skipped.
        """
        numbers = tf.data.Dataset.range(candidates)
        attempts = numbers.map(lambda k: (k, decode_one(k))).ignore_errors()
        nothing = tf.data.Dataset.from_tensors(
            (tf.constant(candidates, tf.int64), tf.zeros((1, 1, 3), tf.uint8))
        )
        number, image = attempts.concatenate(nothing).take(1).get_single_element()

        def account() -> tf.Tensor:
            broken = tf.map_fn(name_of, tf.range(number), fn_output_signature=tf.string)
            arguments = [broken, required & (number == candidates)]
            done = tf.numpy_function(self._account, arguments, tf.bool)
            with tf.control_dependencies([done]):
                return tf.identity(number)

        return tf.cond(number > 0, account, lambda: number), image

    def _account(self, names: np.ndarray, exhausted: np.ndarray) -> np.bool_:
        broken = [os.fsdecode(name) for name in names]
        if exhausted or not self.skip:
            raise ValueError(_message(broken, self.skip))
        with self._lock:
            self._names.update(broken)
        return np.bool_(True)


def _message(names: list[str], skipping: bool) -> str:
    received = ", ".join(f"{name!r} ({_size(name)})" for name in names)
    if not skipping:
        return (
            "Every image must be a complete JPEG, PNG, GIF or BMP file; "
            f"skip_broken_images=True passes over those that are not. Received: image={received}"
        )
    return (
        f"Of {len(names)} images tried in a row at least one must be a complete JPEG, PNG, GIF or "
        f"BMP file. Received: images={received}"
    )


def _size(name: str) -> str:
    return f"{os.path.getsize(name)} bytes" if os.path.isfile(name) else "no file"
