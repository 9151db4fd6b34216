"""Which layers the benchmark of the GPU kernels takes; tests/custom_ops/test_cuda.py runs it."""

import pytest

from benchmarks import gpu_layers
from benchmarks.shapes import Layer
from pkkd_tf.models import build as build_model


@pytest.mark.parametrize(
    "network,model",
    [("ResNet-20", "resnet20"), pytest.param("ResNet-50", "resnet50", marks=pytest.mark.slow)],
)
def test_every_shape_of_the_networks(network, model):
    found = set()
    for layer in build_model(model).layers:
        if type(layer).__name__ == "AdderConv2D":
            stride = layer.strides[0]
            size = stride * layer.output.shape[1]  # the padding is a layer of its own
            shape = (size, layer.input.shape[3], layer.filters, layer.kernel_size[0], stride)
            found.add(Layer(network, gpu_layers.BATCHES[network], *shape))
    assert {layer for layer in gpu_layers.layers() if layer.network == network} == found
