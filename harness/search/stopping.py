"""When a differentiable search stops: rules that read its epochs (DARTS+, Liang et al., 2019).

A rule is a pure function of the epochs so far, so it wraps any search, survives a resume, and can be asked
afterwards about a search that ran past it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.search.records import SearchEpoch


@dataclass(frozen=True)
class Stop:
    """The rule that ended a search, the last epoch it ran for, and the reason in words."""

    rule: str
    epoch: int
    reason: str


class StopRule(ABC):
    """A reason to stop, looked for after every epoch."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call the rule."""

    @abstractmethod
    def reason(self, epochs: Sequence[SearchEpoch]) -> str | None:
        """Why the search should stop after the last of these epochs, or None to go on."""


@dataclass(frozen=True)
class SkipCount(StopRule):
    """DARTS+ criterion 1: the derived normal cell has `limit` or more skip-connections.

    Not asked while the alphas rest: what their noise derives says nothing.
    """

    limit: int = 2

    @property
    def name(self) -> str:
        """Criterion 1."""
        return "criterion 1"

    def reason(self, epochs: Sequence[SearchEpoch]) -> str | None:
        """The number of skip-connections, if it is too large."""
        last = epochs[-1]
        if not last.searching or last.skips < self.limit:
            return None
        return f"the derived normal cell has {last.skips} skip-connections; the rule allows {self.limit - 1}"


@dataclass(frozen=True)
class StableRanking(StopRule):
    """DARTS+ criterion *: on every edge, the learnable operations' alphas kept their ranking for `epochs` epochs.

    The epoch that first shows a ranking is not counted: nine more equal ones are nine epochs of no change. Epochs
    in which the alphas rest do not count either, or a warm-up would look like a search that has settled.
    """

    epochs: int = 10

    @property
    def name(self) -> str:
        """Criterion *."""
        return "criterion *"

    def reason(self, epochs: Sequence[SearchEpoch]) -> str | None:
        """How long the ranking has been the same, if long enough."""
        recent = epochs[-self.epochs - 1 :]
        if len(recent) <= self.epochs or not all(epoch.searching for epoch in recent[1:]):
            return None
        if any(learnable_ranking(epoch) != learnable_ranking(recent[0]) for epoch in recent[1:]):
            return None
        return f"the ranking of the learnable operations' alphas has not changed for {self.epochs} epochs"


CRITERIA: tuple[StopRule, ...] = (SkipCount(), StableRanking())
"""Those of DARTS+, as published."""


def learnable_ranking(epoch: SearchEpoch) -> list[tuple[str, ...]]:
    """Learnable operations from the largest alpha to the smallest, for every edge of every kind of cell."""
    columns = [(name, epoch.operations.index(name)) for name in epoch.learnable]
    return [
        tuple(name for name, column in sorted(columns, key=lambda item: -row[item[1]]))
        for alphas in epoch.alphas.values()
        for row in _rows(alphas)
    ]


def first_stop(rules: Iterable[StopRule], epochs: Sequence[SearchEpoch]) -> Stop | None:
    """The first epoch at which a rule holds, by the rule that is named first; None if none ever does."""
    known = tuple(rules)
    for count, epoch in enumerate(epochs, start=1):
        for rule in known:
            reason = rule.reason(epochs[:count])
            if reason is not None:
                return Stop(rule.name, epoch.epoch, reason)
    return None


def _rows(alphas: Any) -> list[list[float]]:
    """Rows of nested lists [edges, operations] or [cells, edges, operations]."""
    if isinstance(alphas[0][0], list):
        return [row for cell in alphas for row in cell]
    return list(alphas)
