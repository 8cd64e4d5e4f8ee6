"""What every language model of the recurrent space shares: tied word vectors, dropout masks, first weights."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from spaces.darts_rnn.config import DARTSRNNConfig
from spaces.darts_rnn.cross_entropy import TokenLoss, next_token_loss
from spaces.darts_rnn.dropout import DropoutRates
from spaces.darts_rnn.genotype import NODES
from spaces.errors import InputError
from spaces.weights import draw_weight

FAN_IN = 625
"""The authors draw all weights uniformly from ±0.04 (rnn/model.py, INITRANGE), which is ±1/sqrt(625)."""


class Masks(NamedTuple):
    """Variational dropout (Gal and Ghahramani, 2016): one draw for all places of a sequence, 0 or 1 / (1 - rate).

    token: [classes, 1], over the rows of the embedding. embedded, hidden, output: [B, hidden].
    """

    token: Tensor
    embedded: Tensor
    hidden: Tensor
    output: Tensor


def draw_masks(rates: DropoutRates, config: DARTSRNNConfig, batch_size: int, generator: torch.Generator) -> Masks:
    """Masks for one batch, drawn on the generator's device."""
    shape = (batch_size, config.hidden)

    def draw(shape: tuple[int, int], rate: float) -> Tensor:
        kept = torch.empty(shape, device=generator.device).bernoulli_(1 - rate, generator=generator)
        return kept.div_(1 - rate)

    return Masks(
        token=draw((config.classes, 1), rates.token),
        embedded=draw(shape, rates.embedding) * draw(shape, rates.input),
        hidden=draw(shape, rates.hidden),
        output=draw(shape, rates.output),
    )


class Reading(NamedTuple):
    """What a model makes of a text: states [T, B, hidden], and those states as the decoder reads them.

    The last of `states` is where the next part goes on.
    """

    states: Tensor
    dropped: Tensor
    words: Words

    def logits(self) -> Tensor:
        """[T, B, classes] of the next tokens."""
        return self.words.logits(self.dropped)

    def loss(self, targets: Tensor) -> TokenLoss:
        """Loss of the next tokens, targets [T, B], without holding their logits."""
        decoder = self.words.decoder
        return next_token_loss(self.dropped, targets, decoder.weight, decoder.bias)


class LanguageModel(Protocol):
    """A network or supernet that reads text part by part."""

    def read(self, tokens: Tensor, hidden: Tensor, masks: Masks | None = None) -> Reading:
        """Tokens int64 [T, B] after a state [B, hidden]; without masks nothing is dropped."""

    def start(self, batch_size: int) -> Tensor:
        """State [B, hidden] before a text: zeros."""


class Words(nn.Module):
    """Embedding and decoder with one weight [classes, hidden], and the decoder's bias, 0 at first."""

    def __init__(self, config: DARTSRNNConfig, seed: int) -> None:
        super().__init__()
        self.decoder = drawn_linear("words", config.hidden, config.classes, seed, bias=True)

    def start(self, batch_size: int) -> Tensor:
        """State [B, hidden] before a text: zeros."""
        return self.decoder.weight.new_zeros(batch_size, self.decoder.in_features)

    def embed(self, tokens: Tensor, masks: Masks | None) -> Tensor:
        """Tokens [T, B] to [T, B, hidden]."""
        vectors = nn.functional.embedding(tokens, self.decoder.weight)
        if masks is None:
            return vectors
        return vectors * nn.functional.embedding(tokens, masks.token) * masks.embedded

    def reading(self, states: Tensor, masks: Masks | None) -> Reading:
        """States [T, B, hidden] and what is read from them."""
        return Reading(states, states if masks is None else states * masks.output, self)

    def logits(self, states: Tensor) -> Tensor:
        """[..., hidden] to [..., classes]."""
        logits: Tensor = self.decoder(states)
        return logits


class CellWeights(nn.Module):
    """Products of a cell, each to [gate, candidate]: of the token, of the state before it, of every node.

    They are layers of torch, so that the scorers that read the weights of linear layers find them.
    """

    def __init__(self, config: DARTSRNNConfig, seed: int) -> None:
        super().__init__()
        width = config.hidden
        self.token = drawn_linear("cell.token", width, 2 * width, seed)
        self.state = drawn_linear("cell.state", width, 2 * width, seed)
        self.nodes = nn.ModuleList(
            drawn_linear(f"cell.nodes.{number}", width, 2 * width, seed) for number in range(NODES)
        )

    def node_weights(self) -> list[Tensor]:
        """Weights [2 hidden, hidden] of the nodes."""
        return [node.get_parameter("weight") for node in self.nodes]


def drawn_linear(name: str, width: int, outputs: int, seed: int, *, bias: bool = False) -> nn.Linear:
    """Linear layer drawn by (seed, name), uniformly as the authors do; a bias is 0."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, outputs, bias=bias)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(draw_weight(f"{name}.weight", (outputs, width), FAN_IN, seed)))
        if bias:
            layer.bias.zero_()
    return layer


def check_tokens(tokens: Tensor) -> None:
    """Raise `InputError` for anything but int64 [B, T]."""
    if tokens.dtype != torch.int64 or tokens.dim() != 2:
        raise InputError(
            f"space darts-rnn reads tokens, int64 of shape [B, T], not {tokens.dtype} of shape "
            f"{list(tokens.shape)}: give --dataset text, ptb:PATH or wikitext2:PATH"
        )
