"""The filters of adder layers: as the operation takes them, and in groups of similar extent."""

from typing import Any

import keras
import numpy as np

from pkkd_tf.layers import AdderDense, AdderDepthwiseConv2D


def group_filters(filters: np.ndarray, count: int) -> list[int]:
    """Groups filters of similar extent: k-means on the largest |w| of each.

    Args:
        filters: array (kh, kw, C, O).
        count: int, most groups.

    Returns:
        For each filter its group, counted from 0 in the order of the extents.

    Example:
        >>> group_filters(np.array([[[[1.0, 5.0, 1.1, 5.2]]]]), 2)
        [0, 1, 0, 1]
    """
    from sklearn.cluster import KMeans  # a second of importing, for this alone

    extents = np.abs(filters).max((0, 1, 2))[:, None]
    count = min(count, len(np.unique(extents)))
    if count == 1:
        return [0] * len(extents)
    fitted = KMeans(count, n_init=10, random_state=0).fit(extents)
    rank = np.argsort(np.argsort(fitted.cluster_centers_[:, 0]))
    return [int(rank[label]) for label in fitted.labels_]


def as_operation(layer: Any) -> np.ndarray:
    """The filters of an adder layer as the operation takes them, float32."""
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float32")
    if isinstance(layer, AdderDense):
        return kernel[None, None]
    if isinstance(layer, AdderDepthwiseConv2D):
        return kernel.reshape(*kernel.shape[:2], 1, -1)
    return kernel
