"""The networks around a hierarchical cell (Liu et al., ICLR 2018, figures 2 and 3).

A node concatenates what its edges bring, and a motif of level 2 ends with a 1x1 convolution back to the channels
of its cell. Parameters are named by (cell, path of edges, operation), so motifs that change their number keep
their weights. Edges that lead nowhere are not built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spaces.hierarchical.config import HierarchicalConfig, output_width
from spaces.hierarchical.genotype import (
    CONV_1X1,
    DEPTHWISE_3X3,
    IDENTITY,
    MAX_POOL_3X3,
    SEPARABLE_3X3,
    Genotype,
    Motif,
    Operation,
)
from spaces.operations import average_pool_3x3, max_pool_3x3
from spaces.weights import draw_weight


class ConvBNReLU(nn.Sequential):
    """Convolutions without bias one after the other, batch norm, ReLU: this space's order."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        width = convolutions[-1].out_channels
        super().__init__(*convolutions, nn.BatchNorm2d(width), nn.ReLU())


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def separable(in_channels: int, out_channels: int, stride: int = 1) -> ConvBNReLU:
    """3x3 depthwise, then 1x1 convolution, batch norm and ReLU after both."""
    return ConvBNReLU(_depthwise(in_channels, stride), _pointwise(in_channels, out_channels))


def make_primitive(operation: Operation, width: int, channels: int) -> nn.Module:
    """Module of a primitive on `width` channels in a cell of `channels`; stride 1."""
    if operation == IDENTITY:
        return nn.Identity()
    if operation == CONV_1X1:
        return ConvBNReLU(_pointwise(width, channels))
    if operation == DEPTHWISE_3X3:
        return ConvBNReLU(_depthwise(width))
    if operation == SEPARABLE_3X3:
        return separable(width, channels)
    return max_pool_3x3() if operation == MAX_POOL_3X3 else average_pool_3x3()


class MotifNetwork(nn.Module):
    """A motif of `genotype.levels[index]` in a cell of `channels`; the attribute `width` is what comes out."""

    def __init__(self, genotype: Genotype, index: int, motif: Motif, width: int, channels: int) -> None:
        super().__init__()
        self.width: int
        self.edges = nn.ModuleDict()
        self.ends: list[tuple[int, int]] = []
        widths = {0: width}
        for edge in motif.live_edges:
            entering = widths[edge.source]
            name = f"{edge.source}_{edge.target}"
            if index == 0:
                self.edges[f"{name}-{edge.operation}"] = make_primitive(edge.operation, entering, channels)
                leaving = output_width(edge.operation, entering, channels)
            else:
                below = genotype.levels[index - 1][int(edge.operation)]
                inner = MotifNetwork(genotype, index - 1, below, entering, channels)
                self.edges[name] = inner
                leaving = inner.width
            widths[edge.target] = widths.get(edge.target, 0) + leaving
            self.ends.append((edge.source, edge.target))
        self.sink = motif.nodes - 1
        self.width = channels if index == 0 else widths[self.sink]
        self.closing = ConvBNReLU(_pointwise(widths[self.sink], channels)) if index == 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] to [B, width, H, W]."""
        arrived: dict[int, list[Tensor]] = {0: [x]}
        values: dict[int, Tensor] = {}
        for (source, target), operation in zip(self.ends, self.edges.values(), strict=True):
            # Edges are sorted by target, so all that enters a node is there before anything leaves it.
            if source not in values:
                values[source] = _concatenated(arrived.pop(source))
            arrived.setdefault(target, []).append(operation(values[source]))
        output: Tensor = self.closing(_concatenated(arrived[self.sink]))
        return output


def _concatenated(values: list[Tensor]) -> Tensor:
    return torch.cat(values, 1) if len(values) > 1 else values[0]


class HierarchicalNetwork(nn.Module):
    """Stem, cells with separable convolutions between them, global pooling, linear; weights by (seed, name)."""

    def __init__(self, genotype: Genotype, config: HierarchicalConfig, seed: int) -> None:
        super().__init__()
        self.stem = ConvBNReLU(nn.Conv2d(config.input_channels, config.channels, 3, padding=1, bias=False))
        self.cells = nn.ModuleList()
        self.reductions = nn.ModuleList()
        width = config.channels
        for channels, width, stride in config.blocks():
            cell = MotifNetwork(genotype, len(genotype.levels) - 1, genotype.cell, channels, channels)
            self.cells.append(cell)
            self.reductions.append(separable(cell.width, width, stride))
        self.classifier = nn.Linear(width, config.classes)
        self._draw_weights(seed)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x: Tensor = self.stem(images)
        for cell, reduction in zip(self.cells, self.reductions, strict=True):
            x = reduction(cell(x))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                for kind, parameter in module.named_parameters():
                    values = draw_weight(f"{name}.{kind}", tuple(parameter.shape), fan_in, seed)
                    parameter.copy_(torch.from_numpy(values))
