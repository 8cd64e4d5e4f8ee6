"""Hierarchical representations: motifs of motifs, evolved as a genotype (Liu et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spaces.base import Complexity, Counting, SearchSpace
from spaces.errors import InputError
from spaces.hierarchical.canonical import canonical_genotype
from spaces.hierarchical.config import HierarchicalConfig
from spaces.hierarchical.genotype import Edge, Genotype, Level, Motif, parse_genotype
from spaces.hierarchical.variation import identity_chains, log_count, mutated, neighbours

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Edge", "Flat", "Genotype", "Hierarchical", "HierarchicalConfig", "Level", "Motif"]

PAPER_LEVELS = (Level(motifs=6, nodes=4), Level(motifs=1, nodes=5))
FLAT_LEVELS = (Level(motifs=1, nodes=11),)
SAMPLE_MUTATIONS = 1000
"""The paper's example of how many mutations make an identity chain a random genotype (section 3.1)."""


class Hierarchical(SearchSpace[Genotype, HierarchicalConfig]):
    """Genotypes of any number of levels; `levels` are those from level 2 up, by default the paper's.

    Raises:
        InputError: a level without motifs or with fewer than 2 nodes, or a last level of more than one motif.
    """

    name = "hierarchical"
    description = "motifs of motifs: 6 of 4 nodes over six primitives, in a cell of 5 nodes"
    config_type = HierarchicalConfig

    def __init__(self, levels: Sequence[Level] = PAPER_LEVELS) -> None:
        if not levels or levels[-1].motifs != 1:
            raise InputError("the last level of a hierarchical space must have one motif, the cell")
        for index, level in enumerate(levels):
            if level.motifs < 1 or level.nodes < 2:
                raise InputError(f"level {index + 2} must have at least 1 motif of at least 2 nodes, not {level}")
        self.levels = tuple(levels)

    @property
    def log_size(self) -> float:
        """Natural logarithm of the number of genotypes as written, each motif with a path to its sink."""
        return log_count(self.levels)

    def parse(self, text: str) -> Genotype:
        """Genotype of this text; see `parse_genotype` for the errors."""
        return parse_genotype(text, self.levels)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Identity chains after 1,000 random mutations: how the paper makes its initial population."""
        return mutated(identity_chains(self.levels), self.levels, rng, SAMPLE_MUTATIONS)

    def mutate(self, architecture: Genotype, rng: np.random.Generator) -> Genotype:
        """Level, motif, edge and operation each uniform, as in the paper; not uniform over the neighbours."""
        return mutated(architecture, self.levels, rng, 1)

    def neighbours(self, architecture: Genotype) -> Iterator[Genotype]:
        """Genotypes with one edge added, altered or removed, in any motif."""
        return neighbours(architecture, self.levels)

    def canonical(self, architecture: Genotype, counting: Counting) -> Genotype:
        """The genotype that stands for those that compute the same; every ReLU of a network is live."""
        del counting
        return canonical_genotype(architecture)

    def network(self, architecture: Genotype, config: HierarchicalConfig, seed: int) -> nn.Module:
        """Network of this cell, small or large as the config says; weights drawn by (seed, parameter name)."""
        from spaces.hierarchical.network import HierarchicalNetwork

        return HierarchicalNetwork(architecture, config, seed)

    def complexity(self, architecture: Genotype, config: HierarchicalConfig) -> Complexity:
        """Parameters and operations of the network that is built; see `HierarchicalConfig.complexity`."""
        return config.complexity(architecture)


class Flat(Hierarchical):
    """The paper's baseline: one graph of 11 nodes over the primitives."""

    name = "flat"
    description = "the flat baseline of hierarchical: one graph of 11 nodes over six primitives"

    def __init__(self) -> None:
        super().__init__(FLAT_LEVELS)
