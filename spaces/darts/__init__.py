"""The DARTS space: two cells of four nodes, seven operations (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spaces.base import Complexity, Counting, SearchSpace
from spaces.darts.config import DARTSConfig, sample_size
from spaces.darts.genotype import (
    OPERATIONS,
    PUBLISHED,
    Genotype,
    canonical_cell,
    neighbouring_cells,
    parse_genotype,
    sample_cell,
)

if TYPE_CHECKING:
    from torch import nn

    from spaces.darts.network import OperationMaker
    from spaces.supernet import Relaxation, Supernet

__all__ = ["DARTS", "DARTSConfig", "Genotype", "sample_size"]


class DARTS(SearchSpace[Genotype, DARTSConfig]):
    """Genotypes of a normal and a reduction cell; about 10^18, so that they are sampled, not listed."""

    name = "darts"
    description = "DARTS: normal and reduction cell of 4 nodes, 2 edges a node, 7 operations"
    config_type: type[DARTSConfig] = DARTSConfig

    operations: ClassVar[tuple[str, ...]] = OPERATIONS
    """In the order of the alphas, `none` first."""

    published: ClassVar[Mapping[str, Genotype]] = PUBLISHED

    def parse(self, text: str) -> Genotype:
        """Genotype of a published name, the authors' notation or JSON; see `parse_genotype` for the errors."""
        return parse_genotype(text, self.operations, self.published)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Both cells, each node with two different sources; no `none`."""
        return Genotype(sample_cell(rng, self.operations[1:]), sample_cell(rng, self.operations[1:]))

    def neighbours(self, architecture: Genotype) -> Iterator[Genotype]:
        """Genotypes that differ in the operation or the source of one edge: 120 of a sampled genotype of DARTS."""
        for normal in neighbouring_cells(architecture.normal, self.operations[1:]):
            yield Genotype(normal, architecture.reduce)
        for reduce in neighbouring_cells(architecture.reduce, self.operations[1:]):
            yield Genotype(architecture.normal, reduce)

    def canonical(self, architecture: Genotype, counting: Counting) -> Genotype:
        """Both cells in the smallest form that computes the same; see `canonical_cell` for what is merged."""
        del counting
        return Genotype(canonical_cell(architecture.normal), canonical_cell(architecture.reduce))

    def network(self, architecture: Genotype, config: DARTSConfig, seed: int) -> nn.Module:
        """The authors' evaluation network of this genotype, weights drawn by (seed, parameter name).

        Raises:
            InputError: a cell has no path from its inputs to its output.
        """
        from spaces.darts.network import DARTSNetwork

        return DARTSNetwork(architecture, config, seed, self.operation_maker(config))

    def supernet(self, config: DARTSConfig, relaxation: Relaxation, seed: int) -> Supernet[Genotype]:
        """All genotypes at once, mixed by alphas; weights drawn by (seed, parameter name)."""
        from spaces.darts.supernet import DARTSSupernet

        return DARTSSupernet(config, relaxation, seed, self.operations, self.operation_maker(config))

    def operation_maker(self, config: DARTSConfig) -> OperationMaker:
        """What makes the modules of the operations."""
        from spaces.darts.network import make_operation

        del config
        return make_operation

    def complexity(self, architecture: Genotype, config: DARTSConfig) -> Complexity:
        """Parameters and multiply-accumulates as written, the auxiliary head left out."""
        return config.complexity(architecture)
