"""The pieces of every network, and the one place that says which layers stay multiplications.

`Blocks.conv` is an adder or a convolution, as `kind` says. `Blocks.multiplying_conv` and
`Blocks.multiplying_dense` are multiplications in either kind: the first layer, whose few input
channels carry the raw image, and the classifier. Nothing else multiplies but batch normalization.
"""

from typing import Any

import keras

from pkkd_tf.layers import AdderConv2D
from pkkd_tf.layers.common import check_input_gradient

KINDS = ("adder", "convolution")
NORM_EPSILON = 1e-5
_LAST = "channels_last"


class Blocks:
    """Applies the layers of one network; both kinds give a layer the same name.

    Args:
        kind: `"adder"` or `"convolution"`, what `conv` and everything built on it is.
        input_gradient: `"clipped"` or `"sign"`, of the adder layers.
        norm_momentum: float, share of the old statistics that batch normalization keeps a step.
    """

    def __init__(self, kind: str, input_gradient: str, norm_momentum: float):
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
        if not 0 <= norm_momentum < 1:
            raise ValueError(
                f"`norm_momentum` must be in [0, 1). Received: norm_momentum={norm_momentum!r}"
            )
        check_input_gradient(input_gradient)
        self.kind, self.input_gradient, self.norm_momentum = kind, input_gradient, norm_momentum

    def multiplying_conv(
        self, x: Any, filters: int, kernel: int, name: str, stride: int = 1, **options: Any
    ) -> Any:
        """A layer that stays a convolution in both kinds (He normal over the fan-out)."""
        options = {"use_bias": False, "kernel_initializer": he_fan_out(), **options}
        return self._padded(keras.layers.Conv2D, x, filters, kernel, name, stride, options)

    def multiplying_dense(self, x: Any, units: int, name: str) -> Any:
        """A classifier that stays a matrix product in both kinds."""
        return keras.layers.Dense(units, kernel_initializer=uniform_fan_in(), name=name)(x)

    def conv(self, x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
        """An adder layer (filters N(0, 1)) or a convolution, symmetrically padded, no bias."""
        if self.kind == "convolution":
            return self.multiplying_conv(x, filters, kernel, name, stride)
        options = {"input_gradient": self.input_gradient}
        return self._padded(AdderConv2D, x, filters, kernel, name, stride, options)

    def _padded(
        self, layer: Any, x: Any, filters: int, kernel: int, name: str, stride: int, options: Any
    ) -> Any:
        """Pads `kernel // 2` pixels on every side; "same" would pad one side only at stride 2."""
        padding = "same"
        if stride > 1:
            padding = "valid"
            x = self.pad(x, kernel // 2, f"{name}_pad")
        return layer(
            filters, kernel, stride, padding=padding, data_format=_LAST, name=name, **options
        )(x)

    def pad(self, x: Any, pixels: int, name: str) -> Any:
        """Zero pixels on every side."""
        if pixels == 0:
            return x
        return keras.layers.ZeroPadding2D(pixels, data_format=_LAST, name=name)(x)

    def norm(self, x: Any, name: str) -> Any:
        """Batch normalization over the last axis."""
        return keras.layers.BatchNormalization(
            momentum=self.norm_momentum, epsilon=NORM_EPSILON, name=name
        )(x)

    def norm_relu(self, x: Any, prefix: str, number: Any = "") -> Any:
        """Batch normalization and ReLU."""
        x = self.norm(x, f"{prefix}_norm{number}")
        return keras.layers.ReLU(name=f"{prefix}_relu{number}")(x)

    def max_pool(self, x: Any, size: int, name: str, pad: int = 0) -> Any:
        """Maximum over windows at stride 2. Zero padding suits what comes from a ReLU."""
        x = self.pad(x, pad, f"{name}_pad")
        return keras.layers.MaxPooling2D(size, 2, data_format=_LAST, name=name)(x)

    def shortcut(self, x: Any, filters: int, stride: int, prefix: str) -> Any:
        """The identity, or where the shape changes a 1x1 layer with batch normalization."""
        if stride == 1 and x.shape[-1] == filters:
            return x
        x = self.conv(x, filters, 1, f"{prefix}_shortcut_conv", stride)
        return self.norm(x, f"{prefix}_shortcut_norm")

    def basic_block(self, x: Any, filters: int, stride: int, prefix: str) -> Any:
        """3x3 -> norm -> ReLU -> 3x3 -> norm -> + shortcut -> ReLU."""
        y = self.conv(x, filters, 3, f"{prefix}_conv1", stride)
        y = self.norm_relu(y, prefix, 1)
        y = self.norm(self.conv(y, filters, 3, f"{prefix}_conv2"), f"{prefix}_norm2")
        return self._join(y, self.shortcut(x, filters, stride, prefix), prefix, 2)

    def bottleneck_block(self, x: Any, filters: int, stride: int, prefix: str) -> Any:
        """1x1 -> 3x3 (with the stride) -> 1x1 to `4 * filters`, + shortcut -> ReLU."""
        y = self.norm_relu(self.conv(x, filters, 1, f"{prefix}_conv1"), prefix, 1)
        y = self.norm_relu(self.conv(y, filters, 3, f"{prefix}_conv2", stride), prefix, 2)
        y = self.norm(self.conv(y, 4 * filters, 1, f"{prefix}_conv3"), f"{prefix}_norm3")
        return self._join(y, self.shortcut(x, 4 * filters, stride, prefix), prefix, 3)

    def _join(self, y: Any, shortcut: Any, prefix: str, number: int) -> Any:
        y = keras.layers.Add(name=f"{prefix}_add")([y, shortcut])
        return keras.layers.ReLU(name=f"{prefix}_relu{number}")(y)

    def pooled_head(self, x: Any, num_classes: int, use_bias: bool = False) -> Any:
        """Average pool, 1x1 convolution, batch normalization on the logits (official code)."""
        x = keras.layers.GlobalAveragePooling2D(data_format=_LAST, keepdims=True, name="pool")(x)
        x = self.multiplying_conv(
            x, num_classes, 1, "head_conv", use_bias=use_bias, kernel_initializer=uniform_fan_in()
        )
        return self.logits(self.norm(x, "head_norm"))

    def logits(self, x: Any) -> Any:
        """(N, classes), float32 also where the network computes in 16 bits."""
        return keras.layers.Flatten(_LAST, name="logits", dtype="float32")(x)


def he_fan_out() -> keras.initializers.Initializer:
    """N(0, 2 / fan_out): He et al. 2015, as residual networks are initialised in PyTorch."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def uniform_fan_in() -> keras.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default, which official classifiers keep."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
