"""Image files to pixels: random resized crop for training, resize and centre crop for test."""

import tensorflow as tf

_END_OF_JPEG = b"\xff\xd9"


def decode_random_window(contents: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Decodes a random window of an image file.

    The window covers 0.08 to 1 of the area at an aspect ratio of 3/4 to 4/3 (Szegedy et al., arXiv
    1409.4842). TensorFlow's sampler draws the ratio and then the height uniformly, so windows are
    smaller on average than with a uniform area. Of a complete JPEG only the window is decoded.

    Args:
        contents: string Tensor. The bytes of a JPEG, PNG, GIF or BMP file.
        key: Tensor of two integers. All draws are a function of it.

    Returns:
        uint8 Tensor of shape (height, width, 3).
    """

    def whole() -> tf.Tensor:
        image = decode(contents)
        top, left, height, width = tf.unstack(_random_window(tf.shape(image), key))
        return image[top : top + height, left : left + width]

    def window_only() -> tf.Tensor:
        window = _random_window(tf.io.extract_jpeg_shape(contents), key)
        return tf.io.decode_and_crop_jpeg(contents, window, channels=3)

    # A truncated JPEG decodes as long as the window lies above the cut; without an end marker the
    # whole image is decoded, so that the same files are broken whatever the window.
    tail = tf.maximum(tf.strings.length(contents) - 2, 0)
    complete = tf.strings.substr(contents, tail, 2) == _END_OF_JPEG
    image = tf.cond(tf.io.is_jpeg(contents) & complete, window_only, whole)
    return tf.ensure_shape(image, (None, None, 3))


def resize_and_mirror(image: tf.Tensor, size: int, key: tf.Tensor) -> tf.Tensor:
    """Resizes to a square, and mirrors left and right with probability 1/2.

    The resize is bilinear with antialiasing, as in the image libraries that published ImageNet
    results were obtained with.

    Args:
        image: uint8 Tensor of shape (height, width, 3).
        size: int. Height and width of the result.
        key: Tensor of two integers that decides on mirroring.

    Returns:
        float32 Tensor of shape (size, size, 3) with values in 0..255.
    """
    mirror = tf.random.stateless_uniform([], key, 0, 2, dtype=tf.int32) == 1
    image = tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)
    return _resize(image, tf.constant([size, size]))


def resize_and_center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes the short side to size * 256 / 224 and cuts a square out of the middle.

    Args:
        image: uint8 Tensor of shape (height, width, 3).
        size: int. Height and width of the result.

    Returns:
        float32 Tensor of shape (size, size, 3) with values in 0..255.
    """
    shape = tf.shape(image)[:2]
    ratio = round(size * 256 / 224) / tf.reduce_min(shape)
    resized = tf.cast(tf.round(tf.cast(shape, tf.float64) * ratio), tf.int32)
    image = _resize(image, resized)
    top, left = tf.unstack((resized - size) // 2)
    return tf.ensure_shape(image[top : top + size, left : left + size], (size, size, 3))


def decode(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF (first frame) or BMP to uint8 (height, width, 3)."""
    image = tf.io.decode_image(contents, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def _resize(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # Enlarging, antialiasing changes nothing and takes three times as long.
    shrinks = tf.reduce_any(tf.shape(image)[:2] > size)
    return tf.cond(
        shrinks,
        lambda: tf.image.resize(image, size, antialias=True),
        lambda: tf.image.resize(image, size),
    )


def _random_window(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=key,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
    )
    return tf.stack([begin[0], begin[1], size[0], size[1]])
