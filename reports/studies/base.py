"""What a study is, what it is given and what it finds: the guide for those who add one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pandas as pd

from harness.datasets import Dataset
from harness.progress import Progress
from harness.store import Store
from harness.training.recipes import Recipe
from harness.truth import TruthTable
from reports.html import Head
from reports.studies.registry import MODULES
from spaces.base import AnySpace, NetworkConfig
from spaces.errors import InputError

Bars = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes a progress bar of a title and a number of units."""


@dataclass(frozen=True, eq=False)
class StudySetting:
    """Where a question is asked: what the options of the command mean.

    `dataset_name`, `data_dir` and `image_size` are what `load_dataset` took; `device` is a torch device type and
    `backend` what the user wants. Networks are scored with `config` and trained with `training_config`, which
    may be smaller, by `recipe`. `truth` are accuracies in percent and `column` the one to rank; `peers` is a
    file of published scores. `sample` and `runs` are None where a study takes its own default. `budget` counts
    trained networks; `scale` names the size of differentiable searches. What a study measures goes to `store`, so
    that a second run measures nothing.
    """

    space: AnySpace
    config: NetworkConfig
    training_config: NetworkConfig
    recipe: Recipe
    dataset: Dataset
    dataset_name: str
    data_dir: Path
    image_size: int | None
    device: str
    backend: str
    processes: int | None
    scorers: tuple[str, ...]
    batch_size: int
    seed: int
    store: Store
    truth: TruthTable | None
    column: str | None
    peers: Path | None
    sample: int | None
    runs: int | None
    budget: int
    command: str
    scale: str = "reduced"

    def known_truth(self) -> tuple[TruthTable, str]:
        """Truth and column. Raises `InputError` where one is not given."""
        if self.truth is None:
            raise InputError("this study ranks trained accuracy: give --truth FILE (or trained) and --column")
        if self.column is None:
            columns = ", ".join(self.truth.numeric_columns())
            raise InputError(f"--truth {self.truth.path} needs --column; it has {columns}")
        self.truth.column(self.column)
        return self.truth, self.column


@dataclass(frozen=True)
class StudyTable:
    """A table of plain text, for console and page."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class StudyFigure:
    """A picture; its file is called after the study and `name`."""

    name: str
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Findings:
    """An answer: sentences made from the numbers, tables and pictures, and the numbers themselves, a row each."""

    sentences: tuple[str, ...]
    tables: tuple[StudyTable, ...]
    figures: tuple[StudyFigure, ...]
    data: pd.DataFrame


@dataclass(frozen=True)
class Study:
    """A question and the function that answers it.

    A new study is one module with a `STUDY` and one line in `reports.studies.registry`. `run` raises
    `InputError` where the setting lacks something, and passes Ctrl-C on with what was measured in the store.
    """

    name: str
    title: str
    question: str
    run: Callable[[StudySetting, Bars], Findings]


def load_study(name: str) -> Study:
    """The study of this name. Raises `InputError` with the names that exist."""
    if name not in MODULES:
        raise InputError(f"unknown study {name!r}; allowed: {', '.join(MODULES)}, all")
    study: Study = import_module(MODULES[name]).STUDY
    return study
