"""Width, depth and size of a NAS-Bench-201 network, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.base import Complexity, NetworkConfig
from spaces.errors import InputError
from spaces.nasbench201.cell import KERNELS, POOL, Cell

STAGES = 3


@dataclass(frozen=True)
class NASBench201Config(NetworkConfig):
    """`channels` of the first stage (C) and `cells` per stage (N); the defaults are the benchmark's."""

    channels: int = 16
    cells: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 4:
            raise InputError(f"image_size must be a multiple of 4 for nasbench201, not {self.image_size}")

    def widths(self) -> list[int]:
        """Channels of the three stages."""
        return [self.channels << stage for stage in range(STAGES)]

    def areas(self) -> list[int]:
        """Pixels of a feature map in the three stages."""
        return [(self.image_size >> stage) ** 2 for stage in range(STAGES)]

    def complexity(self, cell: Cell) -> Complexity:
        """Parameters and operations per image of the network as written, dead edges counted.

        The benchmark's rule of operations, which its published values follow exactly: a multiply-accumulate
        of a convolution or linear layer counts 1 (biases 0), batch norm 2 and ReLU 1 an element, average
        pooling its window's area an output element, and the global pooling (H + 1)^2 a channel.
        """
        widths, areas = self.widths(), self.areas()
        kernels = [KERNELS[operation] for operation in cell.operations if operation in KERNELS]
        pools = cell.operations.count(POOL)
        stem = 9 * self.input_channels * widths[0]
        params = stem + 2 * widths[0]
        flops = (stem + 2 * widths[0]) * areas[0]
        for width, area in zip(widths, areas, strict=True):
            weights = sum(kernel**2 * width**2 for kernel in kernels)
            params += self.cells * (weights + 2 * width * len(kernels))
            flops += self.cells * area * (weights + 3 * width * len(kernels) + 9 * width * pools)
        for stage in range(STAGES - 1):
            small, large = widths[stage], widths[stage + 1]
            weights = 9 * small * large + 9 * large**2 + small * large
            params += weights + 4 * large
            flops += small * areas[stage] + areas[stage + 1] * (weights + 5 * large + 4 * small)
        last, size = widths[-1], self.image_size >> (STAGES - 1)
        params += 2 * last + (last + 1) * self.classes
        flops += 3 * last * areas[-1] + last * (size + 1) ** 2 + last * self.classes
        return Complexity(params, flops)
