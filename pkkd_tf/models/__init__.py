"""Networks of the AdderNet and PKKD papers, each built with adders or with convolutions.

Layers that stay multiplications in the adder kind (`MODELS[name].multiplying`):

    resnet20, resnet32, digits_resnet   stem_conv (3x3), head_conv (1x1)
    resnet18, resnet50                  stem_conv (7x7), head_conv (1x1)
    vgg_small                           conv0 (3x3), head_dense
"""

from pkkd_tf.models.block_ends import block_ends
from pkkd_tf.models.conversion import to_adders
from pkkd_tf.models.registry import MODELS, ModelEntry, build
from pkkd_tf.models.resnet import digits_resnet, resnet18, resnet20, resnet32, resnet50
from pkkd_tf.models.vgg import vgg_small

__all__ = [
    "MODELS",
    "ModelEntry",
    "block_ends",
    "build",
    "digits_resnet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet50",
    "to_adders",
    "vgg_small",
]
