"""Trained accuracies as a study needs them: by architecture of the space, their columns by what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.comparison import newest_training
from harness.store import Store
from harness.truth import TruthTable
from reports.statistics import Floats
from reports.studies.base import StudySetting
from spaces.base import AnySpace, Architecture
from spaces.errors import InputError

COLUMN = re.compile(r"(?P<split>val|test)_(?P<dataset>.+)_(?P<epochs>\d+)ep")


@dataclass(frozen=True)
class AccuracyColumn:
    """A column such as `test_cifar10_200ep`."""

    name: str
    split: str
    dataset: str
    epochs: int


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Rows of a truth table as architectures of the space; `frame` [n, columns] is indexed by their text.

    `column` is the one that the study ranks.
    """

    space: AnySpace
    architectures: tuple[Architecture, ...]
    frame: pd.DataFrame
    column: str

    def values(self, column: str, architectures: Sequence[Architecture]) -> Floats:
        """Values of a column, float64 [n], NaN for what is not known."""
        return self.frame[column].reindex(list(map(str, architectures))).to_numpy(np.float64)

    def named(self) -> list[AccuracyColumn]:
        """Columns whose names say what they mean, in the order of the table."""
        matches = [COLUMN.fullmatch(name) for name in self.frame.columns]
        return [AccuracyColumn(m[0], m["split"], m["dataset"], int(m["epochs"])) for m in matches if m]

    def final(self) -> list[AccuracyColumn]:
        """Of each split and data set the column of most epochs."""
        most: dict[tuple[str, str], AccuracyColumn] = {}
        for column in self.named():
            key = (column.split, column.dataset)
            if key not in most or column.epochs > most[key].epochs:
                most[key] = column
        return list(most.values())

    def find(self, split: str, dataset: str, *, shortest: bool = False) -> AccuracyColumn:
        """Column of a split and data set of most epochs, or of fewest. Raises `InputError` where there is none."""
        found = [column for column in self.named() if (column.split, column.dataset) == (split, dataset)]
        if not found:
            raise InputError(
                f"the truth has no column {split}_{dataset}_...ep; it has {', '.join(self.frame.columns)}"
            )
        pick = min if shortest else max
        return pick(found, key=lambda column: column.epochs)

    def ranked(self) -> AccuracyColumn:
        """The study's column. Raises `InputError` where its name does not say split, data set and epochs."""
        for column in self.named():
            if column.name == self.column:
                return column
        raise InputError(f"--column {self.column} must be named like test_DATASET_200ep, for its short training")

    def sample(self, count: int, seed: int) -> list[Architecture]:
        """At most `count` architectures with the study's accuracy; a larger sample extends a smaller one.

        Where the truth covers the space they are those that `tfnas score --sample` draws.
        """
        rng = np.random.default_rng(seed)
        known = self.frame[self.column].notna()
        if len(self.architectures) == self.space.size:
            drawn = self.space.sample_distinct(min(count, len(self.architectures)), rng)
        else:
            drawn = [self.architectures[index] for index in rng.permutation(len(self.architectures))]
        return [architecture for architecture in drawn if known[str(architecture)]][:count]


def load_accuracies(setting: StudySetting) -> Accuracies:
    """The truth of a setting. Raises `InputError` where it lacks, or an architecture is not of the space."""
    truth, column = setting.known_truth()
    architectures = tuple(setting.space.parse(text) for text in truth.frame["architecture"])
    frame = truth.frame.drop(columns="architecture").set_axis(list(map(str, architectures)), axis="index")
    return Accuracies(setting.space, architectures, frame[~frame.index.duplicated()], column)


def spread(architectures: Sequence[Architecture], accuracies: Floats, count: int) -> list[Architecture]:
    """`count` architectures evenly spaced in rank of accuracy [n], the worst first."""
    order = np.argsort(accuracies, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [architectures[index] for index in order[places]]


def trained_table(store: Store, space: str) -> TruthTable:
    """The newest trainings of a space in a store as a truth table, its columns named as those of other tables.

    Raises:
        InputError: the store holds none.
    """
    number = newest_training(store, space)
    context = store.training_contexts()[number]
    data = Path(context.dataset.partition(":")[2] or context.dataset).stem
    epochs = json.loads(context.recipe)["epochs"]
    rows = [
        (record.canonical, record.validation_accuracy, record.test_accuracy)
        for record in store.trainings(number).values()
    ]
    columns = ["architecture", f"val_{data}_{epochs}ep", f"test_{data}_{epochs}ep"]
    return TruthTable(store.path, pd.DataFrame(rows, columns=columns))
