"""Training of a language model: truncated backpropagation, then averaged SGD (DARTS, rnn/train.py)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.datasets.text import Corpus, columns
from harness.training.checkpoint import Checkpoint, Stateful
from harness.training.trainer import Tally, set_learning_rate
from spaces.darts_rnn import DARTSRNNConfig
from spaces.darts_rnn.language import DropoutRates, LanguageModel, Masks, Reading, draw_masks
from spaces.errors import InputError, Stopped
from spaces.weights import keyed_generator

SHORTEST, LONGEST_EXTRA, HALVED_SHARE = 5, 20, 0.05
"""Parts of a text have at least 5 tokens and at most 20 above the recipe's; 5 % aim at half of that."""


@dataclass(frozen=True)
class TextRecipe:
    """How the weights of a language model are trained; the defaults are those of the authors' evaluation.

    A text is read by `batch_size` readers at once, in parts of about `length` tokens (normal noise of `jitter`
    around it), between which states are carried, but no gradients. SGD at `learning_rate`, times the part's
    share of `length`; gradients are clipped to norm `clip`. `slowness` weighs the mean square of the change of
    the states from one place to the next, `activation` that of the states that the decoder reads. Validation
    and test are read by `evaluation_batch_size` readers.

    Raises:
        InputError: a value out of its range.
    """

    name: str = "darts-ptb"
    epochs: int = 8000
    batch_size: int = 64
    evaluation_batch_size: int = 10
    length: int = 35
    jitter: float = 5.0
    learning_rate: float = 20.0
    weight_decay: float = 8e-7
    clip: float = 0.25
    slowness: float = 1e-3
    activation: float = 0.0
    dropout: DropoutRates = field(default_factory=lambda: DropoutRates(token=0.1))

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluation_batch_size", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of a recipe must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} of a recipe must be above 0, not {getattr(self, name)}")
        for name in ("jitter", "weight_decay", "slowness", "activation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} of a recipe must be at least 0, not {getattr(self, name)}")

    def text(self) -> str:
        """One text per recipe: its JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)

    def parts(self, places: int, rng: np.random.Generator) -> list[range]:
        """The places that each part of an epoch reads, the last place being for its target only."""
        parts = []
        start = 0
        while start < places - 1:
            aim = self.length if rng.random() >= HALVED_SHARE else self.length / 2
            drawn = int(rng.normal(aim, self.jitter))
            size = min(max(min(SHORTEST, self.length), drawn), self.length + LONGEST_EXTRA)
            parts.append(range(start, min(start + size, places - 1)))
            start += size
        return parts


@dataclass(frozen=True)
class LanguageRecipe(TextRecipe):
    """A recipe whose weights are averaged from the epoch whose validation loss is above the best of all but the
    `plateau` epochs before it (the non-monotone criterion of Merity et al., 2018)."""

    plateau: int = 5


@dataclass(frozen=True)
class LanguageEpoch:
    """One epoch: losses in nats a token, whether weights were averaged, seconds since the start."""

    epoch: int
    train_loss: float
    validation_loss: float
    averaged: bool
    seconds: float


class TrainedLanguage(NamedTuple):
    """Perplexities of the weights of the best epoch by validation, seconds over all resumes, and the curve."""

    validation_perplexity: float
    test_perplexity: float
    epoch: int
    seconds: float
    curve: tuple[LanguageEpoch, ...]


def train_language(
    network: LanguageModel,
    corpus: Corpus,
    config: DARTSRNNConfig,
    recipe: LanguageRecipe,
    seed: int,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[LanguageEpoch], None] | None = None,
) -> TrainedLanguage:
    """Train a network in place on its device, from its checkpoint where there is one, and measure it.

    Parts and dropout of an epoch come from (seed, epoch), so a resumed training has the same bits on CPU. After
    each epoch the checkpoint is written, then `on_epoch` is called. The authors read the test text by one
    reader; here it is read as the validation text is.

    Raises:
        InputError: the text is too short for the readers, or the checkpoint is damaged or of another training.
        Stopped: the loss is no longer finite; the checkpoint is that of the last good epoch.
    """
    started = time.perf_counter()
    assert isinstance(network, nn.Module)
    device = next(network.parameters()).device
    training = columns(corpus.tokens.train, recipe.batch_size, "training").to(device)
    validation, test = (
        columns(tokens, recipe.evaluation_batch_size, split).to(device)
        for tokens, split in ((corpus.tokens.validation, "validation"), (corpus.tokens.test, "test"))
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    average, best = WeightAverage(network), KeptWeights(network)
    parts: dict[str, Stateful] = {"network": network, "optimiser": optimiser, "average": average, "best": best}
    curve = [LanguageEpoch(*row) for row in checkpoint.load(parts)] if checkpoint else []
    earlier = curve[-1].seconds if curve else 0.0
    while len(curve) < recipe.epochs:
        number = len(curve) + 1
        if not average.count and reached_plateau([epoch.validation_loss for epoch in curve], recipe.plateau):
            average.start()
        train_loss = _train_epoch(network, optimiser, average, training, config, recipe, (seed, number))
        with average.in_place():
            validation_loss, _ = evaluate_text(network, validation, recipe.length)
            if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
                raise Stopped(
                    f"the loss is no longer finite in epoch {number}; the {len(curve)} epochs before it are kept"
                    + (f" in {checkpoint.path}" if checkpoint and curve else "")
                )
            if validation_loss < min((epoch.validation_loss for epoch in curve), default=math.inf):
                best.keep()
        seconds = earlier + time.perf_counter() - started
        curve.append(LanguageEpoch(number, train_loss, validation_loss, average.count > 0, seconds))
        if checkpoint:
            checkpoint.save(parts, [astuple(epoch) for epoch in curve])
        if on_epoch:
            on_epoch(curve[-1])
    best.restore()
    chosen = min(curve, key=lambda epoch: epoch.validation_loss)
    test_loss, _ = evaluate_text(network, test, recipe.length)
    seconds = earlier + time.perf_counter() - started
    return TrainedLanguage(
        math.exp(chosen.validation_loss), math.exp(test_loss), chosen.epoch, seconds, tuple(curve)
    )


def reached_plateau(losses: Sequence[float], plateau: int) -> bool:
    """Whether the last loss is above the best of those more than `plateau` epochs before it."""
    earlier = losses[: -1 - plateau]
    return bool(earlier) and losses[-1] > min(earlier)


def next_token_loss(reading: Reading, targets: Tensor) -> Tensor:
    """Mean cross entropy in nats of logits [T, B, classes] and targets [T, B]."""
    return F.cross_entropy(reading.logits.flatten(0, 1), targets.flatten())


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
        tally.add(next_token_loss(reading, part[1:]), reading.logits.flatten(0, 1), part[1:].flatten())
    return tally.means()


def masks_of(
    recipe: TextRecipe, config: DARTSRNNConfig, batch_size: int, seed: int, device: torch.device
) -> Masks:
    """The dropout masks of a part, drawn from a seed of their own."""
    return draw_masks(recipe.dropout, config, batch_size, torch.Generator(device).manual_seed(seed))


def _train_epoch(
    network: LanguageModel,
    optimiser: torch.optim.SGD,
    average: WeightAverage,
    text: Tensor,
    config: DARTSRNNConfig,
    recipe: TextRecipe,
    key: tuple[int, int],
) -> float:
    """One pass over the text; the mean loss of its tokens, penalties left out."""
    rng = keyed_generator(key[0], f"language epoch {key[1]}")
    hidden = network.start(text.shape[1])
    parameters: list[Tensor] = optimiser.param_groups[0]["params"]
    total = torch.zeros((), dtype=torch.float64, device=text.device)
    for part in recipe.parts(len(text), rng):
        masks = masks_of(recipe, config, text.shape[1], int(rng.integers(2**63)), text.device)
        reading = network.read(text[part.start : part.stop], hidden, masks)
        hidden = reading.states[-1].detach()
        loss = next_token_loss(reading, text[part.start + 1 : part.stop + 1])
        optimiser.zero_grad()
        penalised(loss, reading, recipe).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        set_learning_rate(optimiser, recipe.learning_rate * len(part) / recipe.length)
        optimiser.step()
        average.add()
        total += loss.detach() * len(part)
    return float(total) / (len(text) - 1)


class WeightAverage:
    """Running mean of a network's weights over the steps since it was started (Polyak and Juditsky, 1992).

    What torch.optim.ASGD keeps at t0 = 0 and lambd = 0; the steps themselves stay those of SGD.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights = list(network.parameters())
        self._means: list[Tensor] = []
        self._started = False
        self.count = 0

    def start(self) -> None:
        """Average from the next step on."""
        self._started = True
        self._means = [torch.zeros_like(weight) for weight in self._weights]

    @torch.no_grad()
    def add(self) -> None:
        """Count the weights as they are, if the averaging was started."""
        if self._started:
            self.count += 1
            torch._foreach_lerp_(self._means, [weight.detach() for weight in self._weights], 1 / self.count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the mean weights inside, where there are any, and its own again after."""
        if not self.count:
            yield
            return
        own = [weight.detach().clone() for weight in self._weights]
        _place(self._weights, self._means)
        try:
            yield
        finally:
            _place(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Mean and count."""
        return {"means": self._means, "started": self._started, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._means = [mean.to(weight) for mean, weight in zip(state["means"], self._weights, strict=False)]
        self._started, self.count = state["started"], state["count"]


class KeptWeights:
    """The weights that a network had at its best."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = list(network.parameters())
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember the weights as they are."""
        self._kept = [weight.detach().clone() for weight in self._weights]

    def restore(self) -> None:
        """Give the network the weights that were remembered."""
        _place(self._weights, self._kept)

    def state_dict(self) -> dict[str, Any]:
        """The weights, if any."""
        return {"kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember these."""
        self._kept = [kept.to(weight) for kept, weight in zip(state["kept"], self._weights, strict=False)]


@torch.no_grad()
def _place(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
