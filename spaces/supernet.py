"""The supernet of a space: every architecture at once, its operations mixed by alphas that a search learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import ArchitectureT
from spaces.errors import InputError
from spaces.weights import keyed_generator

Weighting = Literal["softmax", "max-w"]

SKIP = "skip_connect"

INITIAL_ALPHA_SCALE = 1e-3
"""Alphas start at so many times normal noise (DARTS, cnn/model_search.py)."""


@dataclass(frozen=True)
class Relaxation:
    """How a supernet mixes the operations of an edge.

    `weighting`: softmax over the alphas (DARTS), or Max-W (sharpDARTS). `partial`: only 1 in so many channels
    goes through the operations, the others pass by (PC-DARTS; 1 is all). `edge_normalisation`: learned weights
    of the edges into a node (PC-DARTS). `skip_dropout`: probability of dropout after skip-connections at the
    start of a search (P-DARTS). `shared`: all cells of a kind have the same alphas, else each its own.
    """

    weighting: Weighting = "softmax"
    partial: int = 1
    edge_normalisation: bool = False
    skip_dropout: float = 0.0
    shared: bool = True

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise InputError(f"unknown weighting {self.weighting!r}; allowed: {', '.join(get_args(Weighting))}")
        if self.partial < 1:
            raise InputError(f"partial must be at least 1, not {self.partial}")
        if not 0 <= self.skip_dropout < 1:
            raise InputError(f"skip_dropout must be at least 0 and below 1, not {self.skip_dropout}")


@dataclass(frozen=True)
class CellKind:
    """A kind of cell: `edges_into` counts the edges into each of its nodes, `cells` the cells of a supernet."""

    name: str
    edges_into: tuple[int, ...]
    cells: int


class Mixture(NamedTuple):
    """Weights in one cell: `operations` [edges, operations], and `edges` [edges] if those are normalised."""

    operations: Tensor
    edges: Tensor | None


class Supernet(nn.Module, ABC, Generic[ArchitectureT]):
    """[B, C, H, W] to logits [B, classes], every operation of every edge weighted by `architecture`.

    A space's supernet calls this constructor, builds its cells and takes their weights from `mixtures`; `decode`
    and `skip_edges` say what an architecture of the space is. All cells are in training mode at all times: there
    are no running statistics in a search.

    Attributes:
        architecture: a kind of cell ("cell", or "normal" and "reduce") to its alphas [edges, operations], or
            [cells, edges, operations] where cells do not share them.
        edge_architecture: the same for the logits of the edges into each node, [edges] or [cells, edges]; empty
            without edge normalisation.
        operations: names of the columns.
        learnable: those of the operations that have weights.
    """

    def __init__(
        self,
        kinds: Sequence[CellKind],
        operations: Sequence[str],
        learnable: Sequence[str],
        relaxation: Relaxation,
        seed: int,
    ) -> None:
        super().__init__()
        self.kinds = {kind.name: kind for kind in kinds}
        self.operations = tuple(operations)
        self.learnable = tuple(learnable)
        self.relaxation = relaxation
        self.architecture = nn.ParameterDict()
        self.edge_architecture = nn.ParameterDict()
        for kind in kinds:
            shape = (sum(kind.edges_into),) if relaxation.shared else (kind.cells, sum(kind.edges_into))
            self.architecture[kind.name] = _noise(f"alpha {kind.name}", (*shape, len(operations)), seed)
            if relaxation.edge_normalisation:
                self.edge_architecture[kind.name] = _noise(f"beta {kind.name}", shape, seed)

    def alphas(self) -> list[nn.Parameter]:
        """Parameters that choose an architecture: those of the operations, then those of the edges."""
        return [*self.architecture.values(), *self.edge_architecture.values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        choosing = {id(parameter) for parameter in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in choosing]

    def mixtures(self, kind: str) -> list[Mixture]:
        """Weights in each cell of a kind, from the first cell to the last."""
        operations = mixing_weights(self.architecture[kind], self.relaxation.weighting)
        edges = self._edge_weights(kind)
        if self.relaxation.shared:
            return [Mixture(operations, edges)] * self.kinds[kind].cells
        return [
            Mixture(part, None if edges is None else edges[cell]) for cell, part in enumerate(operations.unbind())
        ]

    @torch.no_grad()
    def strengths(self, kind: str) -> Tensor:
        """[edges, operations]: softmax of the alphas, times the weights of the edges; the mean over cells."""
        strengths = torch.softmax(self.architecture[kind], -1)
        edges = self._edge_weights(kind)
        if edges is not None:
            strengths = strengths * edges[..., None]
        return strengths if self.relaxation.shared else strengths.mean(0)

    def derive(self, most_skips: int | None = None) -> ArchitectureT:
        """The discrete architecture that the alphas name now.

        With `most_skips`, the weakest skip-connections of the normal cell give way to the next best operation
        until no more than so many are left (P-DARTS, section 3.3).
        """
        strengths = {kind: self.strengths(kind) for kind in self.kinds}
        architecture = self.decode(strengths)
        while most_skips is not None and len(skips := self.skip_edges(architecture)) > most_skips:
            normal, column = next(iter(strengths.values())), self.operations.index(SKIP)
            normal[min(skips, key=lambda edge: float(normal[edge, column])), column] = 0
            architecture = self.decode(strengths)
        return architecture

    @abstractmethod
    def decode(self, strengths: Mapping[str, Tensor]) -> ArchitectureT:
        """The architecture of the strongest operations, from strengths [edges, operations] of every kind."""

    @abstractmethod
    def skip_edges(self, architecture: ArchitectureT) -> list[int]:
        """Edges of the first kind of cell, the normal one, that are skip-connections in this architecture."""

    def _edge_weights(self, kind: str) -> Tensor | None:
        """Softmax over the edges into each node, [edges] or [cells, edges] (PC-DARTS, equation 4)."""
        if kind not in self.edge_architecture:
            return None
        into_nodes = self.edge_architecture[kind].split(self.kinds[kind].edges_into, -1)
        return torch.cat([torch.softmax(node, -1) for node in into_nodes], -1)


AnySupernet = Supernet[Any]


def mixing_weights(alphas: Tensor, weighting: Weighting) -> Tensor:
    """Weight of each operation, over the last axis of alphas [..., operations].

    Max-W is 1 - max(w) + w for w = softmax(alpha), so that the strongest operation has weight 1
    (sharpDARTS, cnn/model_search.py; the maximum is not detached there).
    """
    weights = torch.softmax(alphas, -1)
    return weights if weighting == "softmax" else 1 - weights.amax(-1, keepdim=True) + weights


def _noise(name: str, shape: tuple[int, ...], seed: int) -> nn.Parameter:
    noise = INITIAL_ALPHA_SCALE * keyed_generator(seed, name).standard_normal(shape)
    return nn.Parameter(torch.from_numpy(noise.astype(np.float32)))


def drop_running_statistics(network: nn.Module) -> None:
    """Let every batch norm use the statistics of its batch in evaluation too.

    A search moves the weights back and forth within a step, which running statistics would mix up.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
