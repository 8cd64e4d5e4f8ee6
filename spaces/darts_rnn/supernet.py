"""The supernet of the recurrent space: all activations from every node to all later ones (rnn/model_search.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spaces.darts_rnn.config import DARTSRNNConfig
from spaces.darts_rnn.genotype import ACTIVATIONS, IDENTITY, NODES, OPERATIONS, Node, RecurrentGenotype
from spaces.darts_rnn.language import CellWeights, Masks, Reading, Words, check_tokens
from spaces.darts_rnn.recurrence import MixedRecurrence
from spaces.errors import InputError
from spaces.supernet import CellKind, Relaxation, Supernet

KIND = "recurrent"
EDGES_INTO_NODES = list(range(1, NODES + 1))


class RecurrentSupernet(Supernet[RecurrentGenotype]):
    """All cells at once, with the weights of `RecurrentNetwork` by the same names.

    Every node is batch-normalised without scale and shift, so that the sums of many paths stay bounded; the
    standalone network is not (DARTS, appendix A.1.2). The statistics are those of the batch at the place,
    in evaluation too, where the authors take running ones: a search moves the weights back and forth.
    """

    def __init__(self, config: DARTSRNNConfig, relaxation: Relaxation, seed: int) -> None:
        if replace(relaxation, weighting=Relaxation().weighting) != Relaxation():
            raise InputError("space darts-rnn has no partial, edge_normalisation, skip_dropout or unshared cells")
        super().__init__([CellKind(KIND, tuple(EDGES_INTO_NODES), 1)], OPERATIONS, ACTIVATIONS, relaxation, seed)
        self.words = Words(config, seed)
        self.cell = CellWeights(config, seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, T] to logits [B, classes] of the token that follows, from a state of zeros."""
        check_tokens(tokens)
        embedded = self.words.embed(tokens.T, None)
        return self.words.logits(self._states(embedded, self.start(len(tokens)), None)[-1])

    def read(self, tokens: Tensor, hidden: Tensor, masks: Masks | None = None) -> Reading:
        """Tokens int64 [T, B] after a state [B, hidden]; without masks nothing is dropped."""
        return self.words.reading(self._states(self.words.embed(tokens, masks), hidden, masks), masks)

    def start(self, batch_size: int) -> Tensor:
        """State [B, hidden] before a text: zeros."""
        return self.words.start(batch_size)

    def derive(self, most_skips: int | None = None) -> RecurrentGenotype:
        """The genotype that the alphas name now. Raises `InputError` for `most_skips`: no cell has any."""
        if most_skips is not None:
            raise InputError("space darts-rnn has no skip-connections to bound by most_skips")
        return self.decode({KIND: self.strengths(KIND)})

    def decode(self, strengths: Mapping[str, Tensor]) -> RecurrentGenotype:
        """For each node the predecessor of the strongest activation, and that activation; never `none`."""
        nodes = []
        for into in torch.split(strengths[KIND][:, 1:], EDGES_INTO_NODES):
            predecessor, activation = divmod(int(into.argmax()), len(ACTIVATIONS))
            nodes.append(Node(ACTIVATIONS[activation], predecessor))
        return RecurrentGenotype(tuple(nodes))

    def skip_edges(self, architecture: RecurrentGenotype) -> list[int]:
        """Nodes that pass the candidate on as it is."""
        return [number for number, node in enumerate(architecture.recurrent) if node.activation == IDENTITY]

    def _states(self, embedded: Tensor, hidden: Tensor, masks: Masks | None) -> Tensor:
        """[T, B, hidden] to the states after each token."""
        (mixture,) = self.mixtures(KIND)
        mask = torch.ones_like(hidden) if masks is None else masks.hidden
        parts = self.cell.token(embedded)
        states: Tensor = MixedRecurrence.apply(
            parts, hidden, mask, mixture.operations, self.cell.state.weight, *self.cell.node_weights()
        )
        return states
