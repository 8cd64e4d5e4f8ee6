"""The authors' language model of one recurrent cell (rnn/model.py)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spaces.darts_rnn.config import DARTSRNNConfig
from spaces.darts_rnn.genotype import RecurrentGenotype
from spaces.darts_rnn.language import CellWeights, Masks, Reading, Words, check_tokens

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


class RecurrentNetwork(nn.Module):
    """Word vectors, one cell, and a decoder that shares their weights; all drawn by (seed, parameter name).

    Every node is a highway update of its predecessor: s + c * (f(h) - s), with the gate c and the candidate h
    from one product; node 0 updates the state before by the token and that state. Nothing is normalised.
    """

    def __init__(self, genotype: RecurrentGenotype, config: DARTSRNNConfig, seed: int) -> None:
        super().__init__()
        self.genotype = genotype
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

    def _states(self, embedded: Tensor, hidden: Tensor, masks: Masks | None) -> Tensor:
        """[T, B, hidden] to the states after each token; what the tokens add is one product, [B, T, 2 hidden]."""
        state, states = hidden, []
        for part in self.cell.token(embedded.transpose(0, 1)).unbind(1):
            nodes = [self._first_node(part, state, masks)]
            for product, (activation, predecessor) in zip(self.cell.nodes, self.genotype.recurrent, strict=True):
                source = nodes[predecessor]
                nodes.append(highway(product(masked(source, masks)), source, FUNCTIONS[activation]))
            state = torch.stack(nodes[1:]).mean(0)
            states.append(state)
        return torch.stack(states)

    def _first_node(self, part: Tensor, state: Tensor, masks: Masks | None) -> Tensor:
        return highway(part + self.cell.state(masked(state, masks)), state, torch.tanh)


def masked(source: Tensor, masks: Masks | None) -> Tensor:
    """What the products read of a state [B, hidden]."""
    return source if masks is None else source * masks.hidden


def highway(product: Tensor, source: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Update of `source` [B, hidden] by gate and candidate, the halves of `product` [B, 2 hidden]."""
    gate, candidate = product.chunk(2, -1)
    return torch.lerp(source, function(candidate), torch.sigmoid(gate))
