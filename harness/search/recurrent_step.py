"""One step of a search on text: a part of a text moves the alphas, another the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from harness.search.step import BilevelStep
from harness.training.language import penalised
from harness.training.trainer import set_learning_rate
from spaces.darts_rnn.language import Masks
from spaces.darts_rnn.supernet import RecurrentSupernet

if TYPE_CHECKING:
    from harness.search.recurrent import RecurrentRecipe


class Part(NamedTuple):
    """Part of a text: tokens and the next ones, int64 [T, B], the state before, [B, hidden], and the masks."""

    tokens: Tensor
    targets: Tensor
    hidden: Tensor
    masks: Masks


class PartLoss:
    """Loss of the supernet on one part, the same on every call; `after` is the state that a call reached."""

    def __init__(self, supernet: RecurrentSupernet, part: Part) -> None:
        self._supernet = supernet
        self._part = part
        self.after = part.hidden

    def __call__(self) -> Tensor:
        """Mean cross entropy in nats, penalties left out."""
        part = self._part
        reading = self._supernet.read(part.tokens, part.hidden, part.masks)
        self.after = reading.states[-1].detach()
        return reading.loss(part.targets).mean


class ReadPart(NamedTuple):
    """The training part before the weights moved: mean loss, tokens that were right, states after both parts."""

    loss: Tensor
    right: Tensor
    hidden: Tensor
    validation_hidden: Tensor


class RecurrentStep(BilevelStep):
    """The step of a supernet that reads text."""

    def __init__(self, supernet: RecurrentSupernet, recipe: RecurrentRecipe) -> None:
        weights = supernet.weights()
        weight_optimiser = torch.optim.SGD(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        alpha_optimiser = torch.optim.Adam(
            supernet.alphas(), lr=recipe.alpha_learning_rate, weight_decay=recipe.alpha_weight_decay
        )
        super().__init__(
            supernet,
            weight_optimiser,
            alpha_optimiser,
            order=recipe.order,
            clip=recipe.clip,
            virtual_clip=recipe.clip,
        )
        self._supernet = supernet
        self._recipe = recipe

    def __call__(self, training: Part, validation: Part) -> ReadPart:
        """Move the alphas, then the weights; the learning rate is that of the training part's length."""
        rate = self._recipe.learning_rate * len(training.tokens) / self._recipe.length
        set_learning_rate(self.weight_optimiser, rate)
        validation_loss = PartLoss(self._supernet, validation)
        self.move_alphas(PartLoss(self._supernet, training), validation_loss)
        reading = self._supernet.read(training.tokens, training.hidden, training.masks)
        loss, right = reading.loss(training.targets)
        self.move_weights(penalised(loss, reading, self._recipe))
        return ReadPart(loss.detach(), right, reading.states[-1].detach(), validation_loss.after)
