"""What every search method offers, and how one is found by name: the guide for those who add one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.datasets import Dataset
    from harness.progress import Progress
    from harness.search.records import SearchRecord
    from harness.store import Store
    from spaces.base import AnySpace, NetworkConfig


@dataclass(frozen=True, eq=False)
class SearchJob:
    """Where to search: space, network config, images, seed, and device as torch names it.

    `dataset_name` is what people call the data set. What must outlast a crash goes to `store` and `folder`.
    """

    space: AnySpace
    config: NetworkConfig
    dataset: Dataset
    seed: int
    device: str
    store: Store
    folder: Path


class SearchMethod(ABC):
    """A search, configured: made by its factory in `METHODS` from the settings that the user gave.

    A new method is one file with a subclass and a factory, and one line in `METHODS`. A factory takes the
    method's name and the settings by name, and raises `InputError` for one that it does not know.
    """

    name: str

    @property
    @abstractmethod
    def steps(self) -> int:
        """Units of progress of the whole search."""

    @abstractmethod
    def recipe_text(self) -> str:
        """Everything that decides the search beside its job, as one line of JSON."""

    @abstractmethod
    def run(self, job: SearchJob, progress: Progress) -> SearchRecord:
        """Search, or go on where the same search was cut off, and put what is found into the store.

        Raises:
            InputError: whatever space, data or store have to say.
            Stopped: it cannot go on; what was done is kept.
            KeyboardInterrupt: passed on, with all but the step in flight kept.
        """


@dataclass(frozen=True)
class MethodEntry:
    """Where a method's factory is (`module:function`), and what it is in one line."""

    factory: str
    description: str


_DIFFERENTIABLE = "harness.search.differentiable:differentiable_search"
_EVOLUTION = "harness.search.evolution:evolution_search"

METHODS: Mapping[str, MethodEntry] = {
    "darts": MethodEntry(_DIFFERENTIABLE, "DARTS, 50 epochs to the end"),
    "darts-nasbench201": MethodEntry(_DIFFERENTIABLE, "DARTS as the authors of NAS-Bench-201 ran it"),
    "darts+": MethodEntry(_DIFFERENTIABLE, "DARTS until the normal cell has two skip-connections (criterion 1)"),
    "darts+stable": MethodEntry(_DIFFERENTIABLE, "DARTS until the alphas keep their ranking (criterion *)"),
    "pdarts": MethodEntry(_DIFFERENTIABLE, "like P-DARTS: 25 epochs, dropout after skips, at most two skips kept"),
    "pcdarts": MethodEntry(_DIFFERENTIABLE, "PC-DARTS: a quarter of the channels, edge normalisation"),
    "warmup": MethodEntry(_DIFFERENTIABLE, "like Auto-DeepLab: alphas rest for 20 of 40 epochs"),
    "unshared": MethodEntry(_DIFFERENTIABLE, "DARTS with alphas of its own in every cell"),
    "darts-rnn": MethodEntry("harness.search.recurrent:recurrent_search", "DARTS for a recurrent cell, on text"),
    "sharpdarts": MethodEntry(_DIFFERENTIABLE, "sharpDARTS: 120 epochs of Cosine Power Annealing, cutout"),
    "dhgs": MethodEntry(_DIFFERENTIABLE, "the same with Max-W: hyperparameter grid search, for hypercuboid"),
    "evolution": MethodEntry(_EVOLUTION, "tournaments in a population that only grows (Liu et al., 2018)"),
    "regularised": MethodEntry(_EVOLUTION, "evolution that removes the oldest (Real et al., 2019)"),
    "random": MethodEntry(_EVOLUTION, "random search: the initial population of an evolution alone"),
}


def load_method(name: str, settings: Mapping[str, Any]) -> SearchMethod:
    """The method of this name with these settings.

    Raises:
        InputError: unknown name, with the names that exist; a setting it does not have; a value out of range.
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; allowed: {', '.join(METHODS)}")
    module, _, factory = METHODS[name].factory.partition(":")
    method: SearchMethod = getattr(import_module(module), factory)(name, dict(settings))
    return method
