"""Which layers a distiller compares by default."""

import pytest

from pkkd_tf import models


@pytest.mark.parametrize(
    "name, blocks, last",
    [
        ("digits_resnet", 3, "conv2"),
        ("resnet20", 9, "conv2"),
        pytest.param("resnet50", 16, "conv3", marks=pytest.mark.slow),
    ],
)
def test_last_adder_of_every_block(name, blocks, last):
    ends = models.block_ends(models.build(name))
    assert len(ends) == len(set(ends)) == blocks
    assert all(end.endswith(f"_{last}") for end in ends)
    assert ends[0] == f"stage1_block1_{last}"


def test_network_without_blocks():
    assert models.block_ends(models.vgg_small()) == [f"conv{i}" for i in range(1, 6)]
