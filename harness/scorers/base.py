"""What every scorer offers, and how scorers are found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar

from spaces.base import Counting
from spaces.errors import InputError
from spaces.plan import Plan

if TYPE_CHECKING:
    from torch import nn

    from harness.backends import Backend
    from harness.datasets import Batch

ENTRY_POINT_GROUP = "tfnas.scorers"


@dataclass(frozen=True)
class Score:
    """A value, or a named reason why there is none."""

    value: float | None
    reason: str | None = None


class Scorer(ABC):
    """Scores untrained networks. A plug-in subclasses this and names the class in `tfnas.scorers`.

    A score is a pure function of (architecture, settings, seed, batch). `counting` says which ReLUs the scorer
    sees, and so which architectures it cannot tell apart. `version` is part of a score's key: raise it when
    the definition changes.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    counting: ClassVar[Counting]
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 1

    @abstractmethod
    def score(self, candidate: Plan | nn.Module, batch: Batch, backend: Backend) -> Score:
        """Score of one untrained network, or a reason. Raises `InputError` where the network cannot be run."""


def scorer_names() -> list[str]:
    """Names of the installed scorers, sorted."""
    return sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))


def load_scorer(name: str) -> Scorer:
    """The scorer of this name. Raises `InputError` with the names that exist."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            scorer: Scorer = entry.load()()
            return scorer
    raise InputError(f"unknown scorer {name!r}; allowed: {', '.join(scorer_names())}")
