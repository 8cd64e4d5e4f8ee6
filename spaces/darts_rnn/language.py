"""What every language model of the recurrent space shares: tied word vectors, dropout masks, first weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from spaces.darts_rnn.config import DARTSRNNConfig
from spaces.darts_rnn.genotype import NODES
from spaces.errors import InputError
from spaces.weights import draw_weight

FAN_IN = 625
"""The authors draw all weights uniformly from ±0.04 (rnn/model.py, INITRANGE), which is ±1/sqrt(625)."""


@dataclass(frozen=True)
class DropoutRates:
    """Probabilities of dropout; the defaults are the authors' (rnn/train_search.py, DARTS, appendix A.1.2).

    `token` drops words from the vocabulary, `embedding` and `input` units of the embedded words, `hidden` units
    of what a node reads, `output` units of what the decoder reads.

    Raises:
        InputError: a rate below 0, or not below 1.
    """

    token: float = 0.0
    embedding: float = 0.2
    input: float = 0.75
    hidden: float = 0.25
    output: float = 0.75

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate < 1:
                raise InputError(f"dropout of {field.name} must be at least 0 and below 1, not {rate}")


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
    """What a model makes of a text: logits [T, B, classes] of the next tokens and states [T, B, hidden].

    `dropped` are the states as the decoder reads them. The last of `states` is where the next part goes on.
    """

    logits: Tensor
    states: Tensor
    dropped: Tensor


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
        self.weight = drawn("words.weight", (config.classes, config.hidden), seed)
        self.bias = nn.Parameter(torch.zeros(config.classes))

    def embed(self, tokens: Tensor, masks: Masks | None) -> Tensor:
        """Tokens [T, B] to [T, B, hidden]."""
        vectors = nn.functional.embedding(tokens, self.weight)
        if masks is None:
            return vectors
        return vectors * nn.functional.embedding(tokens, masks.token) * masks.embedded

    def reading(self, states: Tensor, masks: Masks | None) -> Reading:
        """States [T, B, hidden] and what is read from them."""
        dropped = states if masks is None else states * masks.output
        return Reading(self.logits(dropped), states, dropped)

    def logits(self, states: Tensor) -> Tensor:
        """[..., hidden] to [..., classes]."""
        return nn.functional.linear(states, self.weight, self.bias)


class CellWeights(nn.Module):
    """Matrices of a cell, each to [gate, candidate]: of the token, of the state before it, of every node."""

    def __init__(self, config: DARTSRNNConfig, seed: int) -> None:
        super().__init__()
        width = config.hidden
        self.token = drawn("cell.token", (width, 2 * width), seed)
        self.state = drawn("cell.state", (width, 2 * width), seed)
        self.nodes = nn.ParameterList(
            drawn(f"cell.nodes.{number}", (width, 2 * width), seed) for number in range(NODES)
        )


def drawn(name: str, shape: tuple[int, int], seed: int) -> nn.Parameter:
    """Parameter drawn by (seed, name), uniformly as the authors do."""
    return nn.Parameter(torch.from_numpy(draw_weight(name, shape, FAN_IN, seed)))


def check_tokens(tokens: Tensor) -> None:
    """Raise `InputError` for anything but int64 [B, T]."""
    if tokens.dtype != torch.int64 or tokens.dim() != 2:
        raise InputError(
            f"space darts-rnn reads tokens, int64 of shape [B, T], not {tokens.dtype} of shape "
            f"{list(tokens.shape)}: give --dataset text, ptb:PATH or wikitext2:PATH"
        )
