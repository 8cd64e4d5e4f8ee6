"""Differentiable search on images: weights and alphas of a supernet trained in turn (DARTS, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from harness.search.base import SearchJob
from harness.search.epochs import EpochSearch, Learned, RunningSearch
from harness.search.methods import RECIPES, SearchRecipe, configure
from harness.search.step import Batch, SearchStep
from harness.search.stopping import StopRule
from harness.training.images import TrainingSetup, prepare_training
from harness.training.trainer import check_network, evaluate, memory_explained, seeded, set_learning_rate
from spaces.errors import InputError
from spaces.mixed import set_skip_dropout
from spaces.supernet import drop_running_statistics
from spaces.weights import keyed_generator


def differentiable_search(name: str, settings: dict[str, Any]) -> DifferentiableSearch:
    """The search of this name in `RECIPES`, some of its recipe replaced.

    `past_stop` goes on to the last epoch though a rule stopped the search; `tensorboard` writes its curves.
    """
    past_stop, curves = settings.pop("past_stop", False), settings.pop("tensorboard", False)
    return DifferentiableSearch(configure(RECIPES[name], settings), past_stop=past_stop, curves=curves)


class DifferentiableSearch(EpochSearch):
    """A recipe run on images; see `EpochSearch.run`."""

    def __init__(self, recipe: SearchRecipe, *, past_stop: bool = False, curves: bool = False) -> None:
        super().__init__(recipe.name, past_stop=past_stop, curves=curves)
        self.recipe = recipe

    @property
    def steps(self) -> int:
        """Epochs of the whole search."""
        return self.recipe.weights.epochs

    def recipe_text(self) -> str:
        """The recipe."""
        return self.recipe.text()

    def rules(self) -> tuple[StopRule, ...]:
        """Those of the recipe."""
        return self.recipe.rules()

    def start(self, job: SearchJob) -> RunningSearch:
        """Supernet and optimisers, and the two halves of the training images."""
        return _ImageSearch(self.recipe, job)


class _ImageSearch(RunningSearch):
    """A supernet on images that move its weights, and others that move the alphas."""

    def __init__(self, recipe: SearchRecipe, job: SearchJob) -> None:
        self._recipe = recipe
        self._seed = job.seed
        device = torch.device(job.device)
        self._setup = _prepare_halves(recipe, job, device)
        supernet = job.space.supernet(job.config, recipe.relaxation, job.seed)
        drop_running_statistics(supernet)
        supernet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        check_network(supernet, self._setup)
        self._step = SearchStep(supernet, recipe)
        super().__init__(recipe.name, job, supernet, self._step, _settings(recipe))

    def steps(self, number: int) -> Iterator[Callable[[], Learned]]:
        """A step for every batch of the images that the weights learn from."""
        rates = self._rates(number)
        randomness = keyed_generator(self._seed, f"search epoch {number}")
        seeds = randomness.integers(2**63, size=len(rates)).tolist()
        set_skip_dropout(self.supernet, self._recipe.skip_dropout(number))
        for rate, seed, (training, validation) in zip(rates, seeds, self._batches(number), strict=True):
            yield partial(self._learn, rate, seed, training, validation)

    def _learn(self, rate: float, seed: int, training: Batch, validation: Batch | None) -> Learned:
        set_learning_rate(self._step.weight_optimiser, rate)
        loss, logits = self._step(training, validation, seed)
        return Learned(loss, (logits.argmax(1) == training[1]).sum(), len(training[1]))

    def validate(self) -> tuple[float, float]:
        """On the images that move the alphas."""
        return evaluate(self.supernet, self._setup.validation, self._recipe.weights.batch_size)

    def learning_rate(self, number: int) -> float:
        """By the recipe's schedule."""
        return self._rates(number)[0]

    def searches(self, number: int) -> bool:
        """Not while the alphas rest."""
        return number > self._recipe.warmup_epochs

    @contextmanager
    def surroundings(self, number: int) -> Iterator[None]:
        """Torch's own randomness is that of the epoch."""
        generator = keyed_generator(self._seed, f"search epoch {number}")
        with memory_explained(self._recipe.weights), seeded(generator, self._setup.device):
            yield

    def derive(self) -> Any:
        """Bounded by the recipe's `most_skips`."""
        return self.supernet.derive(self._recipe.most_skips)

    def _rates(self, number: int) -> list[float]:
        return self._recipe.weights.rates(number, self._setup.steps_per_epoch)

    def _batches(self, number: int) -> Iterator[tuple[Batch, Batch | None]]:
        """A batch for the weights, and one for the alphas unless they rest, for every step of an epoch."""
        training = self._setup.batches(keyed_generator(self._seed, f"search epoch {number} weights"))
        if number <= self._recipe.warmup_epochs:
            yield from ((batch, None) for batch in training)
            return
        generator = keyed_generator(self._seed, f"search epoch {number} alphas")
        yield from zip(training, _forever(self._setup, generator), strict=False)


def _prepare_halves(recipe: SearchRecipe, job: SearchJob, device: torch.device) -> TrainingSetup:
    setup = prepare_training(job.dataset, recipe.weights, job.seed, device)
    if len(setup.validation) < 2:
        raise InputError(
            f"{job.dataset.name} has too few training images ({len(job.dataset.train)}) for a search that holds "
            f"out {recipe.weights.validation_fraction} of them: it needs 2 for the weights and 2 for the alphas"
        )
    return setup


def _forever(setup: TrainingSetup, generator: np.random.Generator) -> Iterator[Batch]:
    """Batches of the images that move the alphas, in a new order each time round."""
    while True:
        yield from setup.batches(generator, setup.validation)


def _settings(recipe: SearchRecipe) -> dict[str, object]:
    """The recipe in parts."""
    settings = {**asdict(recipe.weights), **asdict(recipe.relaxation), **asdict(recipe)}
    del settings["weights"], settings["relaxation"]
    return settings
