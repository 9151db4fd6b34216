"""The adder layers of ResNet-20 and ResNet-50, as the benchmark of the GPU kernels takes them."""

from collections.abc import Iterator

from benchmarks.shapes import Layer

BATCHES = {"ResNet-20": 256, "ResNet-50": 64}


def layers(batch: int | None = None) -> list[Layer]:
    """Every shape of an adder layer in the two networks, once; of `BATCHES` images, or `batch`."""
    shapes = {"ResNet-20": _resnet20(), "ResNet-50": _resnet50()}
    found = [
        Layer(network, batch or BATCHES[network], *shape)
        for network, own in shapes.items()
        for shape in own
    ]
    return list(dict.fromkeys(found))


# Size, inputs, outputs, kernel, stride of each layer.


def _resnet20() -> Iterator[tuple[int, ...]]:
    for width, size in ((16, 32), (32, 16), (64, 8)):
        if width > 16:
            yield 2 * size, width // 2, width, 3, 2
            yield 2 * size, width // 2, width, 1, 2
        yield size, width, width, 3


def _resnet50() -> Iterator[tuple[int, ...]]:
    inputs = 64
    for width, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        stride = 1 if width == 64 else 2
        before = size * stride
        yield before, inputs, width, 1
        yield before, width, width, 3, stride
        yield size, width, 4 * width, 1
        yield before, inputs, 4 * width, 1, stride
        yield size, 4 * width, width, 1
        yield size, width, width, 3
        inputs = 4 * width


def adder_shape(layer: Layer) -> list[int]:
    """The fields of AdderShape."""
    images, (kernel, *_), (*_, rows, columns, outputs) = layer.shapes
    window = [kernel, kernel, outputs, 1, layer.stride, layer.stride, 1, 1]
    return [*images, *window, layer.pad, layer.pad, rows, columns]
