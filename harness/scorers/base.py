"""What every scorer offers, and how scorers are found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from spaces.base import Complexity, Counting
from spaces.errors import InputError
from spaces.plan import Plan

if TYPE_CHECKING:
    from torch import nn

    from harness.backends import Backend
    from harness.datasets import Batch

ENTRY_POINT_GROUP = "tfnas.scorers"

Reads = Literal["plan", "network", "complexity"]
"""What a scorer is given: the plan, the torch module, or the counts by the space's rule.

Where a space has no plan or no rule, it is given the module.
"""

Needs = Literal["images", "labels", "gradients", "noise"]
"""What a score depends on beside the architecture and its initial weights."""


@dataclass(frozen=True)
class Score:
    """A value, or a named reason why there is none."""

    value: float | None
    reason: str | None = None


class Scorer(ABC):
    """Scores untrained networks. A plug-in subclasses this and names the class in `tfnas.scorers`.

    A score is a pure function of (architecture, settings, seed, batch). `counting` says which ReLUs the scorer
    sees, and so which architectures it cannot tell apart; None where it sees the network as written, dead
    branches included, and no two architectures share a score. `version` is part of a score's key: raise it
    when the definition changes. `twins` names scorers that differ in `counting` alone: where a candidate is the
    same for both, so is the score. `source` names the paper or the authors' file, `cost` the work in passes.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    source: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    reads: ClassVar[Reads] = "network"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images"})
    counting: ClassVar[Counting | None] = None
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 1
    twins: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def score(self, candidate: Plan | Complexity | nn.Module, batch: Batch, backend: Backend) -> Score:
        """Score of one untrained network, or a reason. Raises `InputError` where the network cannot be run.

        The candidate is what `reads` asks for. A module comes with its initial weights on the backend's device
        and is left as it was: other scorers may see it after this one.
        """


Seen = TypeVar("Seen")


class Family(Scorer, Generic[Seen]):
    """Scorers that share one pass: a base class with `look`, and one subclass with `value` for each score.

    Members scored together look once. What `look` returns is for all of them, so none may change it.
    """

    @abstractmethod
    def look(self, candidate: Any, batch: Batch, backend: Backend) -> Seen:
        """What the pass shows of a candidate. Raises `InputError` where the network cannot be run."""

    @abstractmethod
    def value(self, seen: Seen) -> Score:
        """Score by what the pass showed, or a reason."""

    def score(self, candidate: Plan | Complexity | nn.Module, batch: Batch, backend: Backend) -> Score:
        """Score of one network by a pass of its own."""
        return self.value(self.look(candidate, batch, backend))


def scores_of(
    scorers: Sequence[Scorer], candidate: Plan | Complexity | nn.Module, batch: Batch, backend: Backend
) -> list[Score]:
    """Scores of one candidate in the order of the scorers, those of a family by one pass."""
    seen: dict[object, object] = {}
    found = []
    for scorer in scorers:
        if not isinstance(scorer, Family):
            found.append(scorer.score(candidate, batch, backend))
            continue
        family = shared_pass(scorer)
        if family not in seen:
            seen[family] = scorer.look(candidate, batch, backend)
        found.append(scorer.value(seen[family]))
    return found


def shared_pass(scorer: Scorer) -> object:
    """Equal for two scorers exactly where one pass over one architecture serves both."""
    return (type(scorer).look, scorer.counting) if isinstance(scorer, Family) else type(scorer)


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
