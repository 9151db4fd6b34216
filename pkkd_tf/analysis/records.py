"""What one layer costs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LayerOperations:
    """What one layer costs for one image.

    Attributes:
        name: the layer's name; inside a nested model or layer after that one's name and a slash.
        type: the layer's class.
        output_shape: of the first call, without the batch dimension; None where Keras keeps none
            (a layer without weights outside a functional model).
        parameters: number of weights, those that are not trained included.
        multiplications: number of multiplications.
        additions: number of additions.
        multiplying: whether the layer is a convolution or a dense layer and no adder.
        kernel_shape: shape of the filters, the depthwise ones of a separable layer; () for a layer
            that counts as nothing, as below.
        fan_in: number of terms in one output number; 0, also where they differ (transposed,
            separable).
        outputs: number of output numbers, of all calls; 0.
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...] | None
    parameters: int
    multiplications: int = 0
    additions: int = 0
    multiplying: bool = False
    kernel_shape: tuple[int, ...] = ()
    fan_in: int = 0
    outputs: int = 0
