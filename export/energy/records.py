"""What an estimate needs to know about a layer, whatever file the network comes from."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """One layer, for one image. A reader of another format supplies a list of these.

    Attributes:
        name: the layer's name.
        type: the layer's kind, as its format calls it.
        multiplications: number of multiplications.
        additions: number of additions; an adder term is two of them.
        weights: number of filter weights (and biases, scales, offsets) it reads.
        reads: number of numbers in every activation tensor that it reads from memory.
        writes: number of numbers in every activation tensor that it writes to memory.
    """

    name: str
    type: str
    multiplications: int = 0
    additions: int = 0
    weights: int = 0
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
