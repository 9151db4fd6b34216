"""Sizes of batches."""


def of_test(images: int, most: int, pieces: int = 1) -> int:
    """The largest number of images up to `most` that cuts the test set into equal batches.

    A last, smaller batch is a second shape, which XLA compiles and cuDNN tunes for anew. Where only
    less than half of `most` would do, it is `most` all the same.

    Args:
        images: test images.
        most: images of a batch, at most.
        pieces: equal pieces that each batch is cut into: replicas.

    Example:
        >>> of_test(10_000, 256)
        250
        >>> of_test(10_007, 256)
        256
    """
    fitting = (n for n in range(most, 0, -1) if images % n == 0 and n % pieces == 0)
    best = next(fitting, most)
    return best if 2 * best >= most else most
