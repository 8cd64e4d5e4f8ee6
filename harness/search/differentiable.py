"""Differentiable search: weights and alphas of a supernet trained in turn (DARTS, section 2.3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
import torch

from harness.interrupts import deferred_interrupts
from harness.progress import Progress
from harness.records import settings_text
from harness.search.base import SearchJob, SearchMethod
from harness.search.curves import CurveWriter, open_curves
from harness.search.methods import RECIPES, SearchRecipe, configure
from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.search.step import Batch, SearchStep
from harness.search.stopping import Stop, first_stop
from harness.search.table import SearchTable
from harness.training.checkpoint import Checkpoint, Stateful
from harness.training.images import TrainingSetup, prepare_training
from harness.training.trainer import (
    Tally,
    check_network,
    evaluate,
    memory_explained,
    seeded,
    set_learning_rate,
)
from harness.workers import one_thread
from spaces.errors import InputError, Stopped
from spaces.mixed import set_skip_dropout
from spaces.supernet import AnySupernet, drop_running_statistics
from spaces.weights import keyed_generator

LAST_EPOCH = "last epoch"
"""The rule of a search that no other rule stopped."""


def differentiable_search(name: str, settings: dict[str, Any]) -> DifferentiableSearch:
    """The search of this name in `RECIPES`, some of its recipe replaced.

    `past_stop` goes on to the last epoch though a rule stopped the search; `tensorboard` writes its curves.
    """
    past_stop, curves = settings.pop("past_stop", False), settings.pop("tensorboard", False)
    return DifferentiableSearch(configure(RECIPES[name], settings), past_stop=past_stop, curves=curves)


class DifferentiableSearch(SearchMethod):
    """A recipe run on a job, an epoch at a time; the same search goes on where it was cut off."""

    def __init__(self, recipe: SearchRecipe, *, past_stop: bool = False, curves: bool = False) -> None:
        self.name = recipe.name
        self.recipe = recipe
        self._past_stop = past_stop
        self._curves = curves

    @property
    def steps(self) -> int:
        """Epochs of the whole search."""
        return self.recipe.weights.epochs

    def recipe_text(self) -> str:
        """The recipe."""
        return self.recipe.text()

    def run(self, job: SearchJob, progress: Progress) -> SearchRecord:
        """Search to the first stop, or past it to the last epoch; what the store holds is not searched again.

        After every epoch the checkpoint in the job's folder and the store are written, and on Ctrl-C or SIGTERM
        after the step in flight; on CPU a search that was cut off ends with the bits of one that was not, and one
        thread works, since batch norm splits its sums by their number.

        Raises:
            InputError: data, supernet, store or checkpoint do not fit; a checkpoint of another search is named by
                the first difference.
            Stopped: a loss is no longer finite; the checkpoint is that of the last good epoch.
        """
        table = SearchTable(job.store)
        number = table.context(self._context(job))
        known = table.result(number)
        if known and (not self._past_stop or len(table.epochs(number)) == self.steps):
            progress.advance(self.steps)
            return known
        running = _RunningSearch(self.recipe, job)
        epochs = running.resume()
        table.add_epochs(number, epochs)
        progress.advance(len(epochs))
        with (
            one_thread(),
            deferred_interrupts() as interrupts,
            open_curves(self._curves, job.folder) as curves,
        ):
            while not self._ended(epochs):
                epochs.append(running.next_epoch(epochs, lambda: interrupts.asked))
                table.add_epochs(number, epochs[-1:])
                _write_curves(curves, epochs[-1])
                progress.advance()
        record = self._result(epochs)
        table.add_result(number, record)
        running.checkpoint.remove()
        return record

    def _ended(self, epochs: list[SearchEpoch]) -> bool:
        stopped = not self._past_stop and first_stop(self.recipe.rules(), epochs) is not None
        return stopped or len(epochs) == self.steps

    def _result(self, epochs: list[SearchEpoch]) -> SearchRecord:
        stop = first_stop(self.recipe.rules(), epochs)
        if stop is None:
            stop = Stop(LAST_EPOCH, len(epochs), f"all {len(epochs)} epochs are done")
        chosen = epochs[stop.epoch - 1]
        return SearchRecord(chosen.architecture, stop.rule, stop.epoch, stop.reason, epochs[-1].seconds)

    def _context(self, job: SearchJob) -> SearchContext:
        return SearchContext(
            space=job.space.name,
            method=self.name,
            recipe=self.recipe_text(),
            settings=settings_text(job.config),
            seed=job.seed,
            dataset=job.dataset.name,
            data=job.dataset.fingerprint,
            device=job.device,
        )


class _Unfinished:
    """What a checkpoint holds beside networks, optimisers and epochs: seconds, and the epoch that was cut off."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tally = Tally()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, **self.tally.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds = state.pop("seconds")
        self.tally.load_state_dict(state)


class _RunningSearch:
    """Supernet, optimisers, images and checkpoint of one search."""

    def __init__(self, recipe: SearchRecipe, job: SearchJob) -> None:
        self._started = time.perf_counter()
        self._recipe = recipe
        self._seed = job.seed
        device = torch.device(job.device)
        self._setup = _prepare_halves(recipe, job, device)
        self.supernet: AnySupernet = job.space.supernet(job.config, recipe.relaxation, job.seed)
        drop_running_statistics(self.supernet)
        self.supernet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        check_network(self.supernet, self._setup)
        self._step = SearchStep(self.supernet, recipe)
        self._unfinished = _Unfinished()
        self._parts: dict[str, Stateful] = {
            "supernet": self.supernet,
            "weight_optimiser": self._step.weight_optimiser,
            "alpha_optimiser": self._step.alpha_optimiser,
            "unfinished": self._unfinished,
        }
        path = job.folder / f"{recipe.name}-{job.space.name}-seed{job.seed}.pt"
        self.checkpoint = Checkpoint(path, _belongs_to(recipe, job), "search")

    def resume(self) -> list[SearchEpoch]:
        """Epochs of the checkpoint, everything put as it was after them; none if there is no checkpoint."""
        epochs = [SearchEpoch(*row) for row in self.checkpoint.load(self._parts)]
        self._started -= self._unfinished.seconds
        return epochs

    def next_epoch(self, epochs: list[SearchEpoch], interrupted: Callable[[], bool]) -> SearchEpoch:
        """Run, or finish, the epoch after these and write the checkpoint.

        Raises:
            KeyboardInterrupt: `interrupted` says so after a step; the checkpoint holds all up to that step.
            Stopped: a loss is no longer finite.
        """
        number = len(epochs) + 1
        recipe, weights = self._recipe, self._recipe.weights
        set_skip_dropout(self.supernet, recipe.skip_dropout(number))
        rates = weights.rates(number, self._setup.steps_per_epoch)
        tally = self._unfinished.tally
        randomness = keyed_generator(self._seed, f"search epoch {number}")
        seeds = randomness.integers(2**63, size=len(rates)).tolist()
        with memory_explained(weights), seeded(randomness, self._setup.device):
            for step, (training, validation) in enumerate(self._batches(number)):
                if step < tally.batches:
                    continue
                if interrupted():
                    self._save(epochs)
                    raise KeyboardInterrupt
                set_learning_rate(self._step.weight_optimiser, rates[step])
                tally.add(*self._step(training, validation, seeds[step]), training[1])
        train_loss, train_accuracy = tally.means()
        validation_loss, validation_accuracy = evaluate(self.supernet, self._setup.validation, weights.batch_size)
        if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
            raise Stopped(
                f"the loss is no longer finite in epoch {number}; the {len(epochs)} epochs before it are kept"
                + (f" in {self.checkpoint.path}" if epochs else "")
            )
        architecture = self.supernet.derive(recipe.most_skips)
        epoch = SearchEpoch(
            epoch=number,
            architecture=str(architecture),
            skips=len(self.supernet.skip_edges(architecture)),
            searching=number > recipe.warmup_epochs,
            operations=self.supernet.operations,
            learnable=self.supernet.learnable,
            alphas={kind: alphas.tolist() for kind, alphas in self.supernet.architecture.items()},
            learning_rate=rates[0],
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - self._started,
        )
        tally.clear()
        self._save([*epochs, epoch])
        return epoch

    def _save(self, epochs: list[SearchEpoch]) -> None:
        self._unfinished.seconds = time.perf_counter() - self._started
        self.checkpoint.save(self._parts, [astuple(epoch) for epoch in epochs])

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


def _belongs_to(recipe: SearchRecipe, job: SearchJob) -> dict[str, str | int]:
    """What a checkpoint must agree with, in parts, so that the first difference is a setting and not a text."""
    settings = {
        "space": job.space.name,
        "seed": job.seed,
        "data": job.dataset.fingerprint,
        **asdict(job.config),
        **asdict(recipe.weights),
        **asdict(recipe.relaxation),
        **asdict(recipe),
        "device": job.device,
    }
    del settings["weights"], settings["relaxation"]
    return {name: value if isinstance(value, int) else str(value) for name, value in settings.items()}


def _write_curves(curves: CurveWriter, epoch: SearchEpoch) -> None:
    for name in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "skips"):
        curves.add(name, getattr(epoch, name), epoch.epoch)
    for kind, alphas in epoch.alphas.items():
        mean = np.asarray(alphas).reshape(-1, len(epoch.operations)).mean(0)
        for operation, value in zip(epoch.operations, mean, strict=True):
            curves.add(f"mean alpha {kind}/{operation}", float(value), epoch.epoch)
