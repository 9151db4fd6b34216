"""One layer of a network, as the benchmarks of the layers have it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer: square images of `size` pixels, a square window of `kernel`."""

    network: str
    batch: int
    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def name(self) -> str:
        """As in `32x32, 16 -> 16, 3x3`."""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        size, kernel = f"{self.size}x{self.size}", f"{self.kernel}x{self.kernel}{stride}"
        return f"{size}, {self.inputs} -> {self.outputs}, {kernel}"

    @property
    def pad(self) -> int:
        """Zero pixels on each side."""
        return self.kernel // 2

    @property
    def shapes(self) -> tuple[list[int], list[int], list[int]]:
        """Of the images, the filters and the response."""
        out = (self.size + 2 * self.pad - self.kernel) // self.stride + 1
        return (
            [self.batch, self.size, self.size, self.inputs],
            [self.kernel, self.kernel, self.inputs, self.outputs],
            [self.batch, out, out, self.outputs],
        )

    @property
    def operations(self) -> int:
        """Terms |x - f| of the forward pass."""
        *_, response = self.shapes
        return response[0] * response[1] ** 2 * self.outputs * self.kernel**2 * self.inputs
