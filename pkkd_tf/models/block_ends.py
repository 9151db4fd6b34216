"""Which layers of a network a distiller compares by default."""

import keras

from pkkd_tf.layers import AdderConv2D


def block_ends(model: keras.Model) -> list[str]:
    """Names of the last adder layer of every residual block, shortcuts left out.

    Args:
        model: a network of `pkkd_tf.models`, built with adders.

    Returns:
        Layer names in the model's order; in a network without blocks, every adder layer.

    Example:
        >>> block_ends(pkkd_tf.models.build("digits_resnet"))
        ['stage1_block1_conv2', 'stage2_block1_conv2', 'stage3_block1_conv2']
    """
    names = [layer.name for layer in model.layers if isinstance(layer, AdderConv2D)]
    blocks: dict[str, str] = {}
    for name in names:
        prefix, _, end = name.rpartition("_")
        if "_block" in prefix and end.startswith("conv") and not prefix.endswith("shortcut"):
            blocks[prefix] = name
    return list(blocks.values()) or names
