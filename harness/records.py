"""The records that flow from engine and trainer through the store to the reports."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from spaces.base import NetworkConfig


@dataclass(frozen=True)
class ScoreContext:
    """Everything beside the architecture that a score depends on, and the data set's name for people.

    Two contexts are the same if all but `dataset` agree: the hash of the batch says which images they were.
    """

    space: str
    scorer: str
    settings: str
    seed: int
    dataset: str
    batch: str
    batch_size: int
    device: str
    backend: str


@dataclass(frozen=True)
class ScoreRecord:
    """The score of one representative: a value or a named reason, and the seconds that it took."""

    canonical: str
    value: float | None
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Run:
    """One command's part in a context: how many scores it computed, in how many seconds of wall clock."""

    command: str
    computed: int
    seconds: float


@dataclass(frozen=True)
class TrainingContext:
    """Everything beside the architecture that a training depends on, and the data set's name for people."""

    space: str
    recipe: str
    settings: str
    seed: int
    dataset: str
    data: str


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve. Accuracies in percent, losses in nats, seconds since the start."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingRecord:
    """A finished training. Accuracies in percent; seconds of wall clock, all processes' time at the machine."""

    canonical: str
    validation_accuracy: float
    test_accuracy: float
    seconds: float
    curve: tuple[Epoch, ...]


def settings_text(config: NetworkConfig, **others: object) -> str:
    """One text per network config and other settings, keys sorted."""
    return json.dumps({**asdict(config), **others}, sort_keys=True)
