"""Input pipelines on tf.data: digits, CIFAR, ImageNet and image folders."""

from pkkd_tf.data.dataset import ImageDataset
from pkkd_tf.data.loading import PREPROCESSING, load

__all__ = ["PREPROCESSING", "ImageDataset", "load"]
