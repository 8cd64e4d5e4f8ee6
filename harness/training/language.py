"""Training of a language model: truncated backpropagation, then averaged SGD (DARTS, rnn/train.py)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.datasets import Dataset
from harness.datasets.text import Corpus, columns
from harness.records import Epoch
from harness.training.averaging import KeptWeights, WeightAverage, reached_plateau
from harness.training.checkpoint import Checkpoint, Stateful, stop_unless_finite
from harness.training.text_recipes import LanguageRecipe, TextRecipe
from harness.training.trainer import Tally, set_learning_rate
from spaces.base import NetworkConfig
from spaces.darts_rnn import DARTSRNNConfig
from spaces.darts_rnn.language import LanguageModel, Masks, Reading, draw_masks
from spaces.errors import InputError
from spaces.weights import keyed_generator


@dataclass(frozen=True, eq=False)
class TextSetup:
    """A text in columns on the device, int64 [places, readers] each, and how to train on it."""

    recipe: LanguageRecipe
    config: DARTSRNNConfig
    training: Tensor
    validation: Tensor
    test: Tensor
    seed: int


def prepare_text(
    dataset: Dataset, recipe: LanguageRecipe, config: NetworkConfig, seed: int, device: torch.device
) -> TextSetup:
    """The text as the recipe's readers read it.

    Raises:
        InputError: the data set is no text, the config is for no language model, or the text is too short for
            so many readers.
    """
    if not isinstance(dataset, Corpus) or not isinstance(config, DARTSRNNConfig):
        raise InputError(f"recipe {recipe.name} for text trains darts-rnn on a text, not on {dataset.name}")
    tokens, readers = dataset.tokens, recipe.evaluation_batch_size
    return TextSetup(
        recipe=recipe,
        config=config,
        training=columns(tokens.train, recipe.batch_size, "training").to(device),
        validation=columns(tokens.validation, readers, "validation").to(device),
        test=columns(tokens.test, readers, "test").to(device),
        seed=seed,
    )


class TrainedLanguage(NamedTuple):
    """A trained language model, measured with the weights of its best epoch by validation loss.

    Accuracies are the shares of next tokens in percent that were the likeliest; seconds are over all resumes.
    Weights were averaged from the epoch `averaged_since` on, None for never.
    """

    validation_accuracy: float
    test_accuracy: float
    seconds: float
    curve: tuple[Epoch, ...]
    validation_perplexity: float
    test_perplexity: float
    best_epoch: int
    averaged_since: int | None


def train_language(
    network: LanguageModel,
    setup: TextSetup,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedLanguage:
    """Train a network in place, from its checkpoint where there is one, and measure it.

    Parts and dropout of an epoch come from (seed, epoch), so a resumed training has the same bits on CPU. After
    each epoch the checkpoint is written, then `on_epoch` is called. The authors read the test text by one
    reader; here it is read as the validation text is.

    Raises:
        InputError: the checkpoint is damaged or of another training.
        Stopped: the loss is no longer finite; the checkpoint is that of the last good epoch.
    """
    started = time.perf_counter()
    assert isinstance(network, nn.Module)
    network.to(setup.training.device)
    recipe = setup.recipe
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    average, best = WeightAverage(network), KeptWeights(network)
    parts: dict[str, Stateful] = {"network": network, "optimiser": optimiser, "average": average, "best": best}
    curve = [Epoch(*row) for row in checkpoint.load(parts)] if checkpoint else []
    earlier = curve[-1].seconds if curve else 0.0
    while len(curve) < recipe.epochs:
        number = len(curve) + 1
        if average.since is None and reached_plateau([epoch.validation_loss for epoch in curve], recipe.plateau):
            average.start(number)
        train_loss, train_accuracy = _train_epoch(network, optimiser, average, setup, number)
        with average.in_place():
            validation_loss, validation_accuracy = evaluate_text(network, setup.validation, recipe.length)
            stop_unless_finite((train_loss, validation_loss), number, checkpoint)
            if validation_loss < min((epoch.validation_loss for epoch in curve), default=math.inf):
                best.keep()
        curve.append(
            Epoch(
                epoch=number,
                learning_rate=recipe.learning_rate,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                validation_loss=validation_loss,
                validation_accuracy=validation_accuracy,
                seconds=earlier + time.perf_counter() - started,
            )
        )
        if checkpoint:
            checkpoint.save(parts, [astuple(epoch) for epoch in curve])
        if on_epoch:
            on_epoch(curve[-1])
    best.restore()
    chosen = min(curve, key=lambda epoch: epoch.validation_loss)
    test_loss, test_accuracy = evaluate_text(network, setup.test, recipe.length)
    return TrainedLanguage(
        validation_accuracy=chosen.validation_accuracy,
        test_accuracy=test_accuracy,
        seconds=earlier + time.perf_counter() - started,
        curve=tuple(curve),
        validation_perplexity=math.exp(chosen.validation_loss),
        test_perplexity=math.exp(test_loss),
        best_epoch=chosen.epoch,
        averaged_since=average.since,
    )


def penalised(loss: Tensor, reading: Reading, recipe: TextRecipe) -> Tensor:
    """The loss with the penalties on states that are large or that change fast (Merity et al., 2017)."""
    if recipe.activation:
        loss = loss + recipe.activation * reading.dropped.square().mean()
    if recipe.slowness and len(reading.states) > 1:
        loss = loss + recipe.slowness * reading.states.diff(dim=0).square().mean()
    return loss


@torch.no_grad()
def evaluate_text(model: LanguageModel, text: Tensor, length: int) -> tuple[float, float]:
    """Mean cross entropy in nats and share of next tokens in percent that are the likeliest, without dropout.

    text: int64 [places, B] from `columns`; it is read in parts of `length`, states carried on.
    """
    tally = Tally()
    hidden = model.start(text.shape[1])
    for start in range(0, len(text) - 1, length):
        part = text[start : start + length + 1]
        reading = model.read(part[:-1], hidden)
        hidden = reading.states[-1]
        tally.count(*reading.loss(part[1:]), part[1:].numel())
    return tally.means()


def masks_of(
    recipe: TextRecipe, config: DARTSRNNConfig, batch_size: int, seed: int, device: torch.device
) -> Masks:
    """The dropout masks of a part, drawn from a seed of their own."""
    return draw_masks(recipe.dropout, config, batch_size, torch.Generator(device).manual_seed(seed))


def _train_epoch(
    network: LanguageModel, optimiser: torch.optim.SGD, average: WeightAverage, setup: TextSetup, epoch: int
) -> tuple[float, float]:
    """One pass over the text: mean loss of its tokens, penalties left out, and share in percent that was right."""
    rng: np.random.Generator = keyed_generator(setup.seed, f"language epoch {epoch}")
    recipe, text, tally = setup.recipe, setup.training, Tally()
    hidden = network.start(text.shape[1])
    parameters: list[Tensor] = optimiser.param_groups[0]["params"]
    for part in recipe.parts(len(text), rng):
        masks = masks_of(recipe, setup.config, text.shape[1], int(rng.integers(2**63)), text.device)
        reading = network.read(text[part.start : part.stop], hidden, masks)
        hidden = reading.states[-1].detach()
        loss, right = reading.loss(targets := text[part.start + 1 : part.stop + 1])
        optimiser.zero_grad()
        penalised(loss, reading, recipe).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        set_learning_rate(optimiser, recipe.learning_rate * len(part) / recipe.length)
        optimiser.step()
        average.add()
        tally.count(loss, right, targets.numel())
    return tally.means()
