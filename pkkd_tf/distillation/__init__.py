"""Progressive kernel based distillation: losses, feature matching, the model that trains both."""

from pkkd_tf.distillation.distance import SquaredDistance
from pkkd_tf.distillation.feature_matching import FeatureMatching
from pkkd_tf.distillation.features import FeatureLoss
from pkkd_tf.distillation.losses import distillation_loss, label_loss
from pkkd_tf.distillation.matching import match_layers
from pkkd_tf.distillation.pkkd import PKKD
from pkkd_tf.distillation.similarity import SimilarityKernel

__all__ = [
    "PKKD",
    "FeatureLoss",
    "FeatureMatching",
    "SimilarityKernel",
    "SquaredDistance",
    "distillation_loss",
    "label_loss",
    "match_layers",
]
