"""The recurrent half of the DARTS space: a cell for language models (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spaces.base import Complexity, Counting, Reading, SearchSpace
from spaces.darts_rnn.config import DARTSRNNConfig
from spaces.darts_rnn.genotype import (
    RecurrentGenotype,
    canonical_genotype,
    neighbouring_genotypes,
    parse_genotype,
    sample_genotype,
)

if TYPE_CHECKING:
    from spaces.darts_rnn.network import RecurrentNetwork
    from spaces.darts_rnn.supernet import RecurrentSupernet
    from spaces.supernet import Relaxation

__all__ = ["DARTSRNN", "DARTSRNNConfig", "RecurrentGenotype"]


class DARTSRNN(SearchSpace[RecurrentGenotype, DARTSRNNConfig]):
    """Genotypes of one cell: 4^8 * 8! = 2,642,411,520, so that they are sampled, not listed."""

    name = "darts-rnn"
    description = "DARTS recurrent cell for text: 8 nodes, 4 activations, one predecessor each"
    config_type = DARTSRNNConfig
    reads: ClassVar[Reading] = "text"

    def parse(self, text: str) -> RecurrentGenotype:
        """Genotype of DARTS_V1, DARTS_V2 or the authors' notation; see `parse_genotype` for the errors."""
        return parse_genotype(text)

    def sample(self, rng: np.random.Generator) -> RecurrentGenotype:
        """Eight activations and predecessors, each uniform."""
        return sample_genotype(rng)

    def neighbours(self, architecture: RecurrentGenotype) -> Iterator[RecurrentGenotype]:
        """The 52 genotypes that differ in the activation or the predecessor of one node."""
        return neighbouring_genotypes(architecture)

    def canonical(self, architecture: RecurrentGenotype, counting: Counting) -> RecurrentGenotype:
        """The nodes in the one order that all renamings share; every node counts, as the output reads them all."""
        del counting
        return canonical_genotype(architecture)

    def network(self, architecture: RecurrentGenotype, config: DARTSRNNConfig, seed: int) -> RecurrentNetwork:
        """The authors' evaluation network; tokens [B, T] to logits [B, classes] of the token that follows."""
        from spaces.darts_rnn.network import RecurrentNetwork

        return RecurrentNetwork(architecture, config, seed)

    def supernet(self, config: DARTSRNNConfig, relaxation: Relaxation, seed: int) -> RecurrentSupernet:
        """All genotypes at once, mixed by alphas.

        Raises:
            InputError: the relaxation asks for anything but another weighting; there is one cell, without
                channels to leave out or paths to drop.
        """
        from spaces.darts_rnn.supernet import RecurrentSupernet

        return RecurrentSupernet(config, relaxation, seed)

    def complexity(self, architecture: RecurrentGenotype, config: DARTSRNNConfig) -> Complexity:
        """Parameters and multiply-accumulates of a sequence, the same for every genotype."""
        del architecture
        return config.complexity()
