"""The supernet of NAS-Bench-201: the benchmark's network with a mixed operation on every edge of every cell.

As its authors search on it (AutoDL-Projects, search_model_darts.py). It differs from the standalone network in
one thing: the batch norms of a cell's operations have no scale and shift, so that they cannot take over what the
alphas say. As both are 1 and 0 at first, a supernet whose mixture is one architecture starts as that network.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from spaces.mixed import MixedOperation, Source, sum_in_place
from spaces.nasbench201.cell import EDGES, KERNELS, OPERATIONS, OUTPUT_NODE, SKIP, Cell, edge_name, edges_into
from spaces.nasbench201.config import STAGES, NASBench201Config
from spaces.nasbench201.network import ResidualBlock, make_operation
from spaces.operations import draw_weights
from spaces.supernet import CellKind, Mixture, Relaxation, Supernet, drop_running_statistics

KIND = "cell"
EDGES_INTO_NODES = tuple(len(edges_into(node)) for node in range(1, OUTPUT_NODE + 1))


class MixedCell(nn.Module):
    """One cell with every operation on every edge."""

    def __init__(self, channels: int, relaxation: Relaxation) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                edge_name(edge): MixedOperation(
                    {
                        name: make_operation(name, channels // relaxation.partial, affine=False)
                        for name in OPERATIONS
                    },
                    partial=relaxation.partial,
                    skip_dropout=relaxation.skip_dropout,
                )
                for edge in range(len(EDGES))
            }
        )

    def forward(self, x: Tensor, mixture: Mixture) -> Tensor:
        """[B, C, H, W] to the same shape."""
        operations = mixture.operations.unbind()
        nodes = [Source(x)]
        for node in range(1, OUTPUT_NODE + 1):
            terms = []
            for edge, source in edges_into(node):
                term = self.edges[edge_name(edge)](nodes[source], operations[edge])
                terms.append(term if mixture.edges is None else mixture.edges[edge] * term)
            nodes.append(Source(sum_in_place(terms)))
        return nodes[-1].x


class NASBench201Supernet(Supernet[Cell]):
    """All cells at once; weights drawn by (seed, parameter name of the standalone network)."""

    def __init__(self, config: NASBench201Config, relaxation: Relaxation, seed: int) -> None:
        super().__init__(
            [CellKind(KIND, EDGES_INTO_NODES, STAGES * config.cells)],
            OPERATIONS,
            tuple(KERNELS),
            relaxation,
            seed,
        )
        widths = config.widths()
        self.stem = nn.Conv2d(config.input_channels, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.cells = nn.ModuleList(MixedCell(width, relaxation) for width in widths for _ in range(config.cells))
        self.reductions = nn.ModuleList(ResidualBlock(small, large) for small, large in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(widths[-1], config.classes)
        self.cells_per_stage = config.cells
        drop_running_statistics(self)
        draw_weights(self, seed, standalone_name)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x: Tensor = self.stem_norm(self.stem(images))
        for index, (cell, mixture) in enumerate(zip(self.cells, self.mixtures(KIND), strict=True)):
            stage, position = divmod(index, self.cells_per_stage)
            if stage and position == 0:
                x = self.reductions[stage - 1](x)
            x = cell(x, mixture)
        logits: Tensor = self.classifier(self.relu(self.norm(x)).mean((2, 3)))
        return logits

    def decode(self, strengths: Mapping[str, Tensor]) -> Cell:
        """The strongest operation of every edge, which may be `none`, as the benchmark's authors derive it."""
        return Cell(tuple(OPERATIONS[index] for index in strengths[KIND].argmax(1).tolist()))

    def skip_edges(self, architecture: Cell) -> list[int]:
        """Edges of the cell that are skip-connections."""
        return [edge for edge, operation in enumerate(architecture.operations) if operation == SKIP]


def standalone_name(name: str) -> str:
    """The standalone network's name of a parameter of the supernet: both name (cell, edge, operation)."""
    return name.replace(".operations.", "-")
