"""Size of a sharpDARTS network, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.costs import Cost, sharp_separable
from spaces.darts.config import CellShape, DARTSConfig
from spaces.sharpdarts.primitives import KERNEL, SHARP


@dataclass(frozen=True)
class SharpDARTSConfig(DARTSConfig):
    """A DARTS config, and the channels in the middle of a choke convolution, whatever the width of the cell."""

    choke_channels: int = 32

    def edge_costs(self, operation: str, shape: CellShape, stride: int) -> list[Cost]:
        """Parts of one operation of a cell."""
        if operation not in SHARP:
            return super().edge_costs(operation, shape, stride)
        channels = shape.channels
        middle = SHARP[operation].middle(channels, self.choke_channels)
        return sharp_separable(channels, middle, channels, KERNEL, stride, shape.size)
