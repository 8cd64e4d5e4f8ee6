"""Width, depth and size of a hierarchical network, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from spaces.base import Complexity, NetworkConfig
from spaces.errors import InputError
from spaces.hierarchical.genotype import (
    AVG_POOL_3X3,
    CONV_1X1,
    DEPTHWISE_3X3,
    MAX_POOL_3X3,
    SEPARABLE_3X3,
    Genotype,
    Motif,
    Operation,
)

STAGES = 3


class Block(NamedTuple):
    """A cell of so many channels, and the separable convolution after it."""

    channels: int
    next_channels: int
    stride: int


@dataclass(frozen=True)
class HierarchicalConfig(NetworkConfig):
    """`channels` of the first stage (C) and `cells` per stage; the defaults are those of the search network."""

    channels: int = 16
    cells: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 4:
            raise InputError(f"image_size must be a multiple of 4 for hierarchical spaces, not {self.image_size}")

    def large(self) -> HierarchicalConfig:
        """The network that a found cell is moved to: C = 64 and two cells a stage (NASLib's reading)."""
        return replace(self, channels=64, cells=2)

    def blocks(self) -> list[Block]:
        """Every cell: stride 2 and twice the channels after the last of a stage, stride 1 after all others."""
        widths = [self.channels << stage for stage in range(STAGES)]
        inner = [Block(width, width, 1) for width in widths for _ in range(self.cells)]
        for stage in range(STAGES - 1):
            inner[(stage + 1) * self.cells - 1] = Block(widths[stage], widths[stage + 1], 2)
        return inner

    def complexity(self, genotype: Genotype) -> Complexity:
        """Parameters and operations per image of the network, edges that lead nowhere left out.

        A multiply-accumulate of a convolution or linear layer counts 1, batch norm 2 and ReLU 1 an element,
        pooling its window's area an output element, and the global pooling 1 an input element.
        """
        area = self.image_size**2
        stem = _convolution(9 * self.input_channels * self.channels, self.channels)
        params, flops = stem.params, stem.flops * area
        width = self.channels
        for block in self.blocks():
            cell = _motif_cost(genotype, len(genotype.levels) - 1, genotype.cell, block.channels, block.channels)
            params += cell.params
            flops += cell.flops * area
            area //= block.stride**2
            width = block.next_channels
            reduction = _convolution(9 * cell.width + cell.width * width, width)
            params += reduction.params
            flops += reduction.flops * area
        return Complexity(params + (width + 1) * self.classes, flops + width * area + width * self.classes)


class Cost(NamedTuple):
    """Channels that come out, parameters, and operations per pixel."""

    width: int
    params: int
    flops: int


def output_width(operation: Operation, width: int, channels: int) -> int:
    """Channels after a primitive on `width` channels in a cell of `channels`."""
    return channels if operation in (CONV_1X1, SEPARABLE_3X3) else width


def _convolution(weights: int, width: int) -> Cost:
    """Convolution of so many weights to `width` channels, batch norm and ReLU."""
    return Cost(width, weights + 2 * width, weights + 3 * width)


def _primitive_cost(operation: Operation, width: int, channels: int) -> Cost:
    out = output_width(operation, width, channels)
    if operation == CONV_1X1:
        return _convolution(width * out, out)
    if operation == DEPTHWISE_3X3:
        return _convolution(9 * width, out)
    if operation == SEPARABLE_3X3:
        return _convolution(9 * width + width * out, out)
    return Cost(out, 0, 9 * width if operation in (MAX_POOL_3X3, AVG_POOL_3X3) else 0)


def _motif_cost(genotype: Genotype, index: int, motif: Motif, width: int, channels: int) -> Cost:
    """Cost of a motif of `genotype.levels[index]` on `width` channels."""
    widths = {0: width}
    params = flops = 0
    for edge in motif.live_edges:
        if index == 0:
            cost = _primitive_cost(edge.operation, widths[edge.source], channels)
        else:
            below = genotype.levels[index - 1][int(edge.operation)]
            cost = _motif_cost(genotype, index - 1, below, widths[edge.source], channels)
        widths[edge.target] = widths.get(edge.target, 0) + cost.width
        params += cost.params
        flops += cost.flops
    out = widths[motif.nodes - 1]
    if index > 0:
        return Cost(out, params, flops)
    closing = _convolution(out * channels, channels)
    return Cost(channels, params + closing.params, flops + closing.flops)
