"""Searches that train a supernet epoch by epoch, whatever it reads: stops, checkpoints, and the store."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, astuple
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from harness.interrupts import deferred_interrupts
from harness.progress import Progress
from harness.records import settings_text
from harness.search.base import SearchJob, SearchMethod
from harness.search.curves import CurveWriter, open_curves
from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.search.step import BilevelStep
from harness.search.stopping import Stop, StopRule, first_stop
from harness.search.table import SearchTable
from harness.training.checkpoint import Checkpoint, Stateful, stop_unless_finite
from harness.training.trainer import Tally
from harness.workers import one_thread
from spaces.supernet import AnySupernet

LAST_EPOCH = "last epoch"
"""The rule of a search that no other rule stopped."""


class EpochSearch(SearchMethod, ABC):
    """A search run on a job, an epoch at a time; the same search goes on where it was cut off.

    With `past_stop` it goes on to the last epoch though a rule stopped it, with `curves` TensorBoard is written.
    """

    def __init__(self, name: str, *, past_stop: bool = False, curves: bool = False) -> None:
        self.name = name
        self._past_stop = past_stop
        self._curves = curves

    @abstractmethod
    def start(self, job: SearchJob) -> RunningSearch:
        """Supernet, data and optimisers as they are before the first epoch."""

    def rules(self) -> tuple[StopRule, ...]:
        """The rules that may stop the search, the first to be asked first."""
        return ()

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
        number = table.context(self.context(job))
        known = table.result(number)
        if known and (not self._past_stop or len(table.epochs(number)) == self.steps):
            progress.advance(self.steps)
            return known
        running = self.start(job)
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

    def context(self, job: SearchJob) -> SearchContext:
        """The key of this search on a job."""
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

    def _ended(self, epochs: list[SearchEpoch]) -> bool:
        stopped = not self._past_stop and first_stop(self.rules(), epochs) is not None
        return stopped or len(epochs) == self.steps

    def _result(self, epochs: list[SearchEpoch]) -> SearchRecord:
        stop = first_stop(self.rules(), epochs)
        if stop is None:
            stop = Stop(LAST_EPOCH, len(epochs), f"all {len(epochs)} epochs are done")
        chosen = epochs[stop.epoch - 1]
        return SearchRecord(chosen.architecture, stop.rule, stop.epoch, stop.reason, epochs[-1].seconds)


class Learned(NamedTuple):
    """A training batch before the weights moved: mean loss, how many labels were the likeliest, of how many."""

    loss: Tensor
    right: Tensor
    size: int


class RunningSearch(ABC):
    """Supernet, optimisers and checkpoint of one search. A subclass has the data, and says what a step is.

    `settings` are what a checkpoint must agree with beside space, data, seed, network and device, in parts, so
    that the first difference is a setting and not a text. `searches` says whether alphas move in an epoch.
    """

    def __init__(
        self, name: str, job: SearchJob, supernet: AnySupernet, step: BilevelStep, settings: Mapping[str, object]
    ) -> None:
        self._started = time.perf_counter()
        self.supernet = supernet
        self._unfinished = Unfinished()
        self._parts: dict[str, Stateful] = {
            "supernet": supernet,
            "weight_optimiser": step.weight_optimiser,
            "alpha_optimiser": step.alpha_optimiser,
            "unfinished": self._unfinished,
        }
        path = job.folder / f"{name}-{job.space.name}-seed{job.seed}.pt"
        self.checkpoint = Checkpoint(path, _belongs_to(job, settings), "search")

    @abstractmethod
    def steps(self, number: int) -> Iterable[Callable[[], Learned]]:
        """Every step of an epoch, to be called in this order, unless it was done before."""

    @abstractmethod
    def validate(self) -> tuple[float, float]:
        """Loss in nats and accuracy in percent of the supernet on what its weights do not learn from."""

    @abstractmethod
    def learning_rate(self, number: int) -> float:
        """The first learning rate of an epoch."""

    def searches(self, number: int) -> bool:
        """Whether the alphas move in this epoch."""
        del number
        return True

    def surroundings(self, number: int) -> AbstractContextManager[None]:
        """What the steps of an epoch run in."""
        del number
        return nullcontext()

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
        tally = self._unfinished.tally
        with self.surroundings(number):
            for index, step in enumerate(self.steps(number)):
                if index < tally.batches:
                    continue
                if interrupted():
                    self._save(epochs)
                    raise KeyboardInterrupt
                tally.count(*step())
        train_loss, train_accuracy = tally.means()
        validation_loss, validation_accuracy = self.validate()
        stop_unless_finite((train_loss, validation_loss), number, self.checkpoint)
        architecture = self.derive()
        epoch = SearchEpoch(
            epoch=number,
            architecture=str(architecture),
            skips=len(self.supernet.skip_edges(architecture)),
            searching=self.searches(number),
            operations=self.supernet.operations,
            learnable=self.supernet.learnable,
            alphas={kind: alphas.tolist() for kind, alphas in self.supernet.architecture.items()},
            learning_rate=self.learning_rate(number),
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - self._started,
        )
        tally.clear()
        self._save([*epochs, epoch])
        return epoch

    def derive(self) -> Any:
        """The architecture that the alphas name now."""
        return self.supernet.derive()

    def _save(self, epochs: list[SearchEpoch]) -> None:
        self._unfinished.seconds = time.perf_counter() - self._started
        self.checkpoint.save(self._parts, [astuple(epoch) for epoch in epochs])


class Unfinished:
    """What a checkpoint holds beside supernet, optimisers and epochs: seconds, and the epoch that was cut off.

    `carried` are tensors that a step hands on to the next one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tally = Tally()
        self.carried: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Seconds, tensors, and the sums so far."""
        return {"seconds": self.seconds, "carried": self.carried, **self.tally.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.seconds, self.carried = state.pop("seconds"), state.pop("carried")
        self.tally.load_state_dict(state)


def _belongs_to(job: SearchJob, settings: Mapping[str, object]) -> dict[str, str | int]:
    everything = {
        "space": job.space.name,
        "seed": job.seed,
        "data": job.dataset.fingerprint,
        **asdict(job.config),
        **settings,
        "device": job.device,
    }
    return {name: value if isinstance(value, int) else str(value) for name, value in everything.items()}


def _write_curves(curves: CurveWriter, epoch: SearchEpoch) -> None:
    for name in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "skips"):
        curves.add(name, getattr(epoch, name), epoch.epoch)
    for kind, alphas in epoch.alphas.items():
        mean = np.asarray(alphas).reshape(-1, len(epoch.operations)).mean(0)
        for operation, value in zip(epoch.operations, mean, strict=True):
            curves.add(f"mean alpha {kind}/{operation}", float(value), epoch.epoch)
