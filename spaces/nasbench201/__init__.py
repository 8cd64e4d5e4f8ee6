"""NAS-Bench-201: 15,625 cells of four nodes and five operations (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from spaces.base import Complexity, Counting, SearchSpace
from spaces.errors import InputError
from spaces.nasbench201.cell import EDGES, OPERATIONS, Cell, official_order, parse_cell
from spaces.nasbench201.config import NASBench201Config
from spaces.nasbench201.graph import representatives
from spaces.plan import Plan

if TYPE_CHECKING:
    from torch import nn

    from spaces.supernet import Relaxation, Supernet

__all__ = ["Cell", "NASBench201", "NASBench201Config"]


class NASBench201(SearchSpace[Cell, NASBench201Config]):
    """All cells, in the benchmark's text and order; see `spaces.nasbench201.graph` for which are the same."""

    name = "nasbench201"
    description = "NAS-Bench-201: 15,625 cells of 4 nodes and 5 operations"
    config_type = NASBench201Config

    @property
    def size(self) -> int:
        """15,625 cells."""
        return int(len(OPERATIONS) ** len(EDGES))

    def __iter__(self) -> Iterator[Cell]:
        """Cells in the order of the benchmark's indices."""
        return official_order()

    def parse(self, text: str) -> Cell:
        """Cell of the benchmark's text; see `parse_cell` for the errors."""
        return parse_cell(text)

    def sample(self, rng: np.random.Generator) -> Cell:
        """Six operations, each uniform."""
        return Cell(tuple(OPERATIONS[index] for index in rng.integers(len(OPERATIONS), size=len(EDGES))))

    def neighbours(self, architecture: Cell) -> Iterator[Cell]:
        """The 24 cells that differ in the operation of one edge."""
        for edge, present in enumerate(architecture.operations):
            for operation in OPERATIONS:
                if operation != present:
                    yield architecture.replace(edge, operation)

    def canonical(self, architecture: Cell, counting: Counting) -> Cell:
        """The cell with fewest edges, first in the official order, among those that compute the same."""
        return representatives(counting)[architecture]

    def plan(self, architecture: Cell, config: NASBench201Config, counting: Counting) -> Plan:
        """Steps to every counted ReLU of the cell in its network."""
        from spaces.nasbench201.plan import cell_plan

        return cell_plan(architecture, config, counting)

    def network(self, architecture: Cell, config: NASBench201Config, seed: int) -> nn.Module:
        """The benchmark's network of this cell, weights drawn by (seed, parameter name)."""
        from spaces.nasbench201.network import NASBench201Network

        return NASBench201Network(architecture, config, seed)

    def supernet(self, config: NASBench201Config, relaxation: Relaxation, seed: int) -> Supernet[Cell]:
        """All cells at once, mixed by alphas. Raises `InputError` if `partial` does not divide the channels."""
        from spaces.nasbench201.supernet import NASBench201Supernet

        if config.channels % relaxation.partial:
            raise InputError(f"channels must be a multiple of partial {relaxation.partial}, not {config.channels}")
        return NASBench201Supernet(config, relaxation, seed)

    def complexity(self, architecture: Cell, config: NASBench201Config) -> Complexity:
        """Parameters and operations by the benchmark's rule, dead edges counted."""
        return config.complexity(architecture)
