"""SGD with AdderNet's adaptive local learning rate."""

import math
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.layers.common import PACKAGE, is_adder_filter


@keras.saving.register_keras_serializable(package=PACKAGE)
class AdderSGD(keras.optimizers.Optimizer):
    """SGD that gives the filters of every adder layer their adaptive local learning rate.

    Per variable, on the gradient `G` that is already summed over all replicas:

        G <- G / max(||G||_2, 1e-12) * eta * sqrt(numel(F))     adder filters only
        G <- G + weight_decay * F                               every variable
        M <- momentum * M + G
        F <- F - learning_rate * M

    Source: Chen et al., AdderNet (CVPR 2020, arXiv 1912.13200), eq. 12-13, in the order of its
    official code: normalise first, then weight decay (coupled, not Keras' decoupled one), then
    momentum; `learning_rate` scales the whole momentum, as in PyTorch. Normalising after the sum
    makes the update the same for one replica and for many. A factor on the loss changes nothing
    for adder filters: only the ratios of loss parts do.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: float in [0, 1).
        weight_decay: float >= 0, per step, added to the gradient; None: 0.
        eta: float > 0, the adaptive learning rate's factor; 0.2 for CIFAR in the official code.
        name: string.
        **kwargs: the remaining arguments of `keras.optimizers.Optimizer` (clipping happens before
            the normalisation).

    Raises:
        ValueError: `momentum`, `weight_decay` or `eta` out of its range.

    Example:
        >>> model = keras.Sequential([pkkd_tf.layers.AdderDense(10)])
        >>> model.compile(pkkd_tf.optimizers.AdderSGD(0.1, momentum=0.9), "mse")
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        weight_decay: float | None = 0.0,
        eta: float = 0.2,
        name: str = "adder_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        weight_decay = 0.0 if weight_decay is None else weight_decay
        if not 0 <= momentum < 1 or weight_decay < 0 or not eta > 0:
            raise ValueError(
                "`momentum` must be in [0, 1), `weight_decay` at least 0 and `eta` above 0. "
                f"Received: momentum={momentum}, weight_decay={weight_decay}, eta={eta}"
            )
        self.momentum, self.weight_decay, self.eta = map(float, (momentum, weight_decay, eta))

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Nothing: Keras would shrink the variables; here the decay is part of the gradient."""

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates a momentum a variable and notes which variables are adder filters."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._adaptive = [is_adder_filter(v) for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Applies the update of the class docstring to one variable."""
        index = self._get_variable_index(variable)
        gradient = keras.ops.cast(gradient, variable.dtype)
        if self._adaptive[index]:
            gradient = adaptive_gradient(gradient, self.eta)
        own, accumulated = _handle(variable), _handle(self._momentums[index])
        if self.weight_decay and self._use_weight_decay(variable):
            gradient = self._decayed(gradient, variable, accumulated)
        # One operation for the last two lines, which on a GPU is one launch instead of four.
        tf.raw_ops.ResourceApplyMomentum(
            var=own,
            accum=accumulated,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.constant(self.momentum, variable.dtype),
        )

    def _decayed(self, gradient: Any, variable: Any, accumulated: tf.Tensor) -> Any:
        """The gradient with its decay, unless that is in the momentum: `m (M + d / m F) + G`.

        There it takes one operation instead of two, and no tensor of the variable's size; but XLA's
        clusters leave it out, and d / m must be a number.
        """
        if self.momentum < 1e-3 or tf.config.optimizer.get_jit():
            return gradient + self.weight_decay * variable
        tf.raw_ops.ResourceApplyGradientDescent(
            var=accumulated,
            alpha=tf.constant(-self.weight_decay / self.momentum, variable.dtype),
            delta=tf.convert_to_tensor(variable),
        )
        return gradient

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "eta": self.eta,
        }


def _handle(variable: Any) -> tf.Tensor:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def adaptive_gradient(gradient: Any, eta: float) -> Any:
    """`G / max(||G||_2, 1e-12) * eta * sqrt(numel)`: a step of RMS `eta`, whatever the loss.

    Args:
        gradient: tensor, the gradient of all filters of one layer.
        eta: float.

    Returns:
        Tensor of the same shape and type.

    Example:
        >>> adaptive_gradient(keras.ops.convert_to_tensor([3.0, 4.0]), 0.2)   # [0.1697, 0.2263]
    """
    size = math.prod(gradient.shape)
    wide = "float64" if keras.backend.standardize_dtype(gradient.dtype) == "float64" else "float32"
    exact = tf.cast(gradient, wide)  # the sum of squares overflows in float16
    norm = tf.sqrt(2 * tf.nn.l2_loss(exact))
    return tf.cast(exact * (eta * size**0.5 / tf.maximum(norm, 1e-12)), gradient.dtype)
