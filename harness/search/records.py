"""The records of a search: what it depends on, its epochs, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SearchContext:
    """Everything that a search depends on, and the data set's name for people; `device` since bits differ."""

    space: str
    method: str
    recipe: str
    settings: str
    seed: int
    dataset: str
    data: str
    device: str


@dataclass(frozen=True)
class SearchEpoch:
    """A supernet after an epoch of a differentiable search.

    `architecture` is the text of what the alphas derive, `skips` counts the skip-connections of its normal cell.
    `alphas` maps a kind of cell to nested lists [edges, operations], or [cells, edges, operations] where cells do
    not share them, with columns `operations`, of which those in `learnable` have weights; `searching` says
    whether the alphas moved in this epoch. Losses in nats and accuracies in percent are the supernet's own, never
    to be put beside a trained network's; seconds are since the start of the search.
    """

    epoch: int
    architecture: str
    skips: int
    searching: bool
    operations: tuple[str, ...]
    learnable: tuple[str, ...]
    alphas: dict[str, Any]
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class SearchRecord:
    """What a search found: the architecture, the rule that chose it, the epoch (or step), the reason, seconds."""

    architecture: str
    rule: str
    epoch: int
    reason: str
    seconds: float
