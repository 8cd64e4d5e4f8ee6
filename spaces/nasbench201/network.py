"""The NAS-Bench-201 network around a cell (Dong and Yang, ICLR 2020, section 2).

Stem, three stages of N cells, a stride-2 residual block that doubles the channels between stages, batch
norm, ReLU, global average pooling, linear. Parameters are named by (cell, edge, operation), the names under
which plans draw their weights, so a network and the plan of its cell start from the same bits.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.nasbench201.cell import KERNELS, NONE, OUTPUT_NODE, POOL, Cell, edge_name, edges_into
from spaces.nasbench201.config import NASBench201Config
from spaces.operations import ReLUConvBN, average_pool_3x3, draw_weights


def make_operation(operation: str, channels: int, *, affine: bool = True) -> nn.Module | None:
    """Module of one operation at stride 1, its batch norm with scale and shift if `affine`; None for `none`."""
    if operation == NONE:
        return None
    if operation in KERNELS:
        return ReLUConvBN(channels, channels, KERNELS[operation], affine=affine)
    return average_pool_3x3() if operation == POOL else nn.Identity()


class CellNetwork(nn.Module):
    """One cell as written: edges that reach nothing are computed too; a node without edges is zero."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{edge_name(edge)}-{operation}": module
                for edge, operation in enumerate(cell.operations)
                if (module := make_operation(operation, channels))
            }
        )
        self.operations = cell.operations

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        nodes = [x]
        for node in range(1, OUTPUT_NODE + 1):
            terms = [
                self.edges[f"{edge_name(edge)}-{self.operations[edge]}"](nodes[source])
                for edge, source in edges_into(node)
                if self.operations[edge] != NONE
            ]
            nodes.append(reduce(torch.add, terms) if terms else torch.zeros_like(x))
        return nodes[-1]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first at stride 2, beside 2x2 average pooling and a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = ReLUConvBN(in_channels, out_channels, 3, stride=2)
        self.second = ReLUConvBN(out_channels, out_channels, 3)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, 2C, H/2, W/2]."""
        pooled = F.avg_pool2d(x, 2)
        output: Tensor = self.shortcut(pooled) + self.second(self.first(x))
        return output


class NASBench201Network(nn.Module):
    """The network of one cell; weights drawn by (seed, parameter name)."""

    def __init__(self, cell: Cell, config: NASBench201Config, seed: int) -> None:
        super().__init__()
        widths = config.widths()
        self.stem = nn.Conv2d(config.input_channels, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.cells = nn.ModuleList(CellNetwork(cell, width) for width in widths for _ in range(config.cells))
        self.reductions = nn.ModuleList(ResidualBlock(small, large) for small, large in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(widths[-1], config.classes)
        self.cells_per_stage = config.cells
        draw_weights(self, seed)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x: Tensor = self.stem_norm(self.stem(images))
        for index, cell in enumerate(self.cells):
            stage, position = divmod(index, self.cells_per_stage)
            if stage and position == 0:
                x = self.reductions[stage - 1](x)
            x = cell(x)
        logits: Tensor = self.classifier(self.relu(self.norm(x)).mean((2, 3)))
        return logits
