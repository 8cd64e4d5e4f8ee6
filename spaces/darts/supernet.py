"""The DARTS supernet: every operation on every edge of every cell (Liu et al., ICLR 2019; cnn/model_search.py).

It differs from the standalone network as the authors' does: the batch norms of its cells have no scale and
shift, and pools are followed by one, so that no operation can be louder than another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spaces.darts.config import CellShape, DARTSConfig
from spaces.darts.genotype import INPUTS, KINDS, NODES, NONE, OPERATIONS, OUTPUT, SKIP, Cell, Edge, Genotype
from spaces.darts.network import OperationMaker, edge_name, make_operation, make_preprocessing, make_stem, run_stem
from spaces.mixed import MixedOperation, Source, sum_in_place
from spaces.operations import NormalisedPool, draw_weights
from spaces.supernet import CellKind, Mixture, Relaxation, Supernet, drop_running_statistics

EDGES = tuple((source, node) for node in OUTPUT for source in range(node))
"""(source, node) of the fourteen edges, in the order of the alphas."""

ROWS_INTO = {node: [row for row, edge in enumerate(EDGES) if edge[1] == node] for node in OUTPUT}
"""Places in `EDGES` of the edges into each node."""


class MixedCell(nn.Module):
    """One cell with every operation on every edge; all nodes concatenated."""

    def __init__(
        self, shape: CellShape, relaxation: Relaxation, operations: Sequence[str], make: OperationMaker
    ) -> None:
        super().__init__()
        self.preprocessing = make_preprocessing(shape, affine=False)
        channels = shape.channels // relaxation.partial
        self.edges = nn.ModuleDict()
        for source, node in EDGES:
            stride = 2 if shape.reduction and source < INPUTS else 1
            self.edges[edge_name(source, node)] = MixedOperation(
                {operation: _mixed_module(operation, channels, stride, make) for operation in operations},
                stride=stride,
                partial=relaxation.partial,
                skip_dropout=relaxation.skip_dropout,
            )

    def forward(self, earlier: Tensor, later: Tensor, mixture: Mixture) -> Tensor:
        """Outputs of the two cells before to [B, 4 C, H, W]."""
        inputs = zip(self.preprocessing, (earlier, later), strict=True)
        states = [Source(module(x)) for module, x in inputs]
        operations = mixture.operations.unbind()
        for rows in ROWS_INTO.values():
            terms = []
            for row, state in zip(rows, states, strict=True):
                term = self.edges[edge_name(*EDGES[row])](state, operations[row])
                terms.append(term if mixture.edges is None else mixture.edges[row] * term)
            states.append(Source(sum_in_place(terms)))
        return torch.cat([state.x for state in states[INPUTS:]], 1)


class DARTSSupernet(Supernet[Genotype]):
    """All genotypes at once; weights drawn by (seed, parameter name of the standalone network).

    `operations` are the columns of the alphas, `none` first; `make` makes their modules.
    """

    def __init__(
        self,
        config: DARTSConfig,
        relaxation: Relaxation,
        seed: int,
        operations: Sequence[str] = OPERATIONS,
        make: OperationMaker = make_operation,
    ) -> None:
        shapes = config.shapes()
        into_nodes = tuple(OUTPUT)
        kinds = [CellKind(kind, into_nodes, sum(shape.kind == kind for shape in shapes)) for kind in KINDS]
        learnable = tuple(operation for operation in operations if "conv" in operation)
        super().__init__(kinds, operations, learnable, relaxation, seed)
        self.stem = make_stem(config)
        self.cells = nn.ModuleList(MixedCell(shape, relaxation, operations, make) for shape in shapes)
        self.classifier = nn.Linear(NODES * shapes[-1].channels, config.classes)
        self.kinds_of_cells = [shape.kind for shape in shapes]
        drop_running_statistics(self)
        draw_weights(self, seed, standalone_name)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        mixtures = {kind: iter(self.mixtures(kind)) for kind in self.kinds}
        earlier, later = run_stem(self.stem, images)
        for kind, cell in zip(self.kinds_of_cells, self.cells, strict=True):
            earlier, later = later, cell(earlier, later, next(mixtures[kind]))
        logits: Tensor = self.classifier(later.mean((2, 3)))
        return logits

    def decode(self, strengths: Mapping[str, Tensor]) -> Genotype:
        """Per node the two strongest edges by their strongest operation other than `none`, each with it."""
        return Genotype(**{kind: _derived_cell(strengths[kind], self.operations) for kind in KINDS})

    def skip_edges(self, architecture: Genotype) -> list[int]:
        """Edges of the normal cell that are skip-connections, as rows of the alphas."""
        return [
            EDGES.index((edge.source, place // 2 + INPUTS))
            for place, edge in enumerate(architecture.normal)
            if edge.operation == SKIP
        ]


def standalone_name(name: str) -> str:
    """The standalone network's name of a parameter of the supernet: both name (cell, edge, operation)."""
    return name.replace(".operations.", "-")


def _mixed_module(operation: str, channels: int, stride: int, make: OperationMaker) -> nn.Module | None:
    if operation == NONE:
        return None
    module = make(operation, channels, stride, affine=False)
    return NormalisedPool(module, channels) if "pool" in operation else module


def _derived_cell(strengths: Tensor, operations: Sequence[str]) -> Cell:
    """From strengths [14, operations]; of a node the stronger edge first, of equals the lower source."""
    best, operation = strengths[:, 1:].max(1)
    derived: list[Edge] = []
    for node in OUTPUT:
        strongest = sorted(ROWS_INTO[node], key=lambda row: -float(best[row]))[:2]
        derived += [Edge(operations[int(operation[row]) + 1], EDGES[row][0]) for row in strongest]
    return tuple(derived)
