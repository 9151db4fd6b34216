"""Input pipelines on tf.data: digits, CIFAR, ImageNet and image folders."""

from pkkd_tf.data.dataset import ImageDataset
from pkkd_tf.data.loading import load

__all__ = ["ImageDataset", "load"]
