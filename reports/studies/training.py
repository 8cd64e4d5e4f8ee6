"""Scores of networks while they train, as in the article: do they rank better after a few epochs?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness.backends import load_backend
from harness.engine import ScoringJob
from harness.machine import cores
from harness.progress import Progress
from harness.records import Epoch
from harness.scorers.base import load_scorer
from harness.store import Store
from harness.training.images import prepare_training
from harness.training.recipes import Recipe
from harness.training.run import TrainingJob
from harness.training.trainer import train
from harness.workers import run_tasks
from reports.html import Head
from reports.statistics import UNDEFINED, Floats, Interval
from reports.studies.accuracies import load_accuracies, spread
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import Curve, curves
from reports.studies.jobs import training_job
from reports.studies.resampling import kendall_gain, kendall_interval, ranks
from reports.studies.scores import make_job
from reports.studies.words import several, verdict
from spaces.base import Architecture
from spaces.registry import load_space

NETWORKS = 30
"""Enough for intervals; the article shows ten."""

VALIDATION_IMAGES = 1000
"""Validate at most, as every network does it after every epoch."""

SHOWN = 10
"""Networks in the picture of scores."""

STABLE = 0.9
"""A tau with the scores before training above this counts as the same order."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS scores_in_training (
    scored INTEGER NOT NULL REFERENCES score_contexts(id),
    trained INTEGER NOT NULL REFERENCES training_contexts(id),
    canonical TEXT NOT NULL, epoch INTEGER NOT NULL, score REAL, validation_accuracy REAL,
    PRIMARY KEY (scored, trained, canonical, epoch)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Moment:
    """A network after an epoch, 0 being before training: score, None for none, and accuracy in percent."""

    epoch: int
    score: float | None
    validation_accuracy: float | None


@dataclass(frozen=True)
class AfterEpoch:
    """Mean score, and Kendall's taus of scores and validation accuracies after an epoch."""

    epoch: int
    score: float
    same_order: Interval
    tau: Interval
    gain: Interval
    accuracy_tau: Interval


def study_training(setting: StudySetting, bars: Bars) -> Findings:
    """Networks spread over the truth, scored after every epoch: how scores and their ranks move."""
    accuracies = load_accuracies(setting)
    everything = list(accuracies.architectures)
    values = accuracies.values(accuracies.column, everything)
    known = [architecture for architecture, value in zip(everything, values, strict=True) if not np.isnan(value)]
    networks = spread(known, values[~np.isnan(values)], setting.sample or NETWORKS)
    with bars("networks trained and scored", len(networks)) as bar:
        histories = _histories(setting, networks, bar)
    epochs = setting.recipe.epochs
    direction = 1.0 if load_scorer(setting.scorers[0]).higher_is_better else -1.0
    scores = direction * _by_epoch(histories, epochs, "score")
    reached = _by_epoch(histories, epochs, "validation_accuracy")
    truth = accuracies.values(accuracies.column, networks)
    rows = [_agreement_of(scores, reached, truth, epoch) for epoch in range(1 + epochs)]
    return Findings(
        sentences=tuple(_sentences(rows, accuracies.column, setting.scorers[0])),
        tables=(_table(rows, accuracies.column, len(networks), setting),),
        figures=tuple(_figures(rows, scores, truth, accuracies.column)),
        data=_data(networks, scores, reached, truth),
    )


def _histories(setting: StudySetting, networks: Sequence[Architecture], bar: Progress) -> list[list[Moment]]:
    """Every epoch of each network, from the store, and trained and scored into it where they are missing."""
    scoring = replace(make_job(replace(setting, config=setting.training_config), networks), backend="torch")
    training = training_job(setting, setting.seed, validation_images=VALIDATION_IMAGES)
    table = _MomentTable(setting.store, scoring, training)
    texts = [str(setting.space.canonical(network, "live")) for network in networks]
    known = table.read()
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    bar.advance(len(texts) - len(missing))
    processes = setting.processes or (cores() if setting.device == "cpu" else 1)
    make_watcher = partial(_Watcher, scoring, training)
    with closing(run_tasks(missing, make_watcher, processes=max(1, min(processes, len(missing))))) as results:
        for text, moments in results:
            table.add(text, moments)
            known[text] = moments
            bar.advance()
    return [known[text] for text in texts]


class _Watcher:
    """Trains networks and scores them after every epoch; lives in a worker process, where it keeps the images."""

    def __init__(self, scoring: ScoringJob, training: TrainingJob) -> None:
        device = torch.device(scoring.device)
        self._training = training
        self._space = load_space(training.space)
        self._scorer = load_scorer(scoring.scorer)
        self._backend = load_backend(scoring.backend, device, scoring.seed)
        self._batch = replace(scoring.batch, images=scoring.batch.images.to(device))
        assert isinstance(training.recipe, Recipe)  # of a setting of studies, which is for images
        self._setup = prepare_training(training.load_dataset(), training.recipe, training.seed, device)

    def __call__(self, text: str) -> list[Moment]:
        network = self._space.network(self._space.parse(text), self._training.config, self._training.seed)
        network.to(self._batch.images.device)
        moments = [Moment(0, self._score(network), None)]

        def watch(epoch: Epoch) -> None:
            moments.append(Moment(epoch.epoch, self._score(network), epoch.validation_accuracy))

        train(network, self._setup, on_epoch=watch)
        return moments

    def _score(self, network: nn.Module) -> float | None:
        return self._scorer.score(network, self._batch, self._backend).value


class _MomentTable:
    """The histories of one way to score and to train in a store."""

    def __init__(self, store: Store, scoring: ScoringJob, training: TrainingJob) -> None:
        store.add_tables(SCHEMA)
        self._store = store
        self._key = (store.score_context(scoring.context()), store.training_context(training.context()))

    def read(self) -> dict[str, list[Moment]]:
        """Every history by canonical text."""
        histories: dict[str, list[Moment]] = {}
        for text, *moment in self._store.rows(
            "SELECT canonical, epoch, score, validation_accuracy FROM scores_in_training "
            "WHERE scored = ? AND trained = ? ORDER BY canonical, epoch",
            *self._key,
        ):
            histories.setdefault(text, []).append(Moment(*moment))
        return histories

    def add(self, text: str, moments: Sequence[Moment]) -> None:
        """Write a history, whole."""
        self._store.insert(
            "INSERT OR REPLACE INTO scores_in_training VALUES (?, ?, ?, ?, ?, ?)",
            [(*self._key, text, *astuple(moment)) for moment in moments],
        )


def _by_epoch(histories: Sequence[Sequence[Moment]], epochs: int, field: str) -> Floats:
    """A field of the moments, float64 [networks, 1 + epochs], NaN for none."""
    values = np.full((len(histories), 1 + epochs), np.nan)
    for row, moments in zip(values, histories, strict=True):
        for moment in moments:
            value = getattr(moment, field)
            row[moment.epoch] = np.nan if value is None else value
    return values


def _agreement_of(scores: Floats, reached: Floats, truth: Floats, epoch: int) -> AfterEpoch:
    now, before = ranks(scores[:, epoch]), ranks(scores[:, 0])
    accuracy = kendall_interval(ranks(reached[:, epoch]), truth) if epoch else UNDEFINED
    return AfterEpoch(
        epoch,
        score=float(np.nanmean(scores[:, epoch])),
        same_order=kendall_interval(now, before),
        tau=kendall_interval(now, truth),
        gain=kendall_gain(now, before, truth) if epoch else UNDEFINED,
        accuracy_tau=accuracy,
    )


def _table(rows: Sequence[AfterEpoch], column: str, count: int, setting: StudySetting) -> StudyTable:
    heads = (
        Head("Epoch"),
        Head("Mean score"),
        Head("Kendall with the score before", "Whether the order of the networks holds."),
        Head("Kendall of the score", f"With {column}."),
        Head("Gain over before", "Difference of two taus on the same networks."),
        Head("Kendall of accuracy", f"Validation accuracy after that epoch, with {column}."),
    )
    shown = [
        (
            f"{row.epoch}",
            f"{row.score:.1f}",
            str(row.same_order),
            str(row.tau),
            str(row.gain) if row.epoch else "",
            str(row.accuracy_tau) if row.epoch else "",
        )
        for row in rows
    ]
    note = (
        f"{several(count, 'network')} evenly spaced in rank of {column}, built as {setting.training_config} and "
        f"trained by recipe {setting.recipe.name} for {several(setting.recipe.epochs, 'epoch')}; intervals by "
        "bootstrap over networks."
    )
    return StudyTable("Scores while networks train", heads, tuple(shown), note)


def _figures(rows: Sequence[AfterEpoch], scores: Floats, truth: Floats, column: str) -> list[StudyFigure]:
    epochs = [row.epoch for row in rows]
    shown = np.argsort(truth, kind="stable")[np.unique(np.linspace(0, len(truth) - 1, SHOWN).round().astype(int))]
    paths = [Curve(f"{truth[index]:.1f} %", epochs, list(scores[index])) for index in shown]
    tau = [
        Curve.of_intervals(f"score with {column}", epochs, [row.tau for row in rows]),
        Curve.of_intervals("score with the score before", epochs, [row.same_order for row in rows]),
        Curve.of_intervals(f"accuracy with {column}", epochs[1:], [row.accuracy_tau for row in rows[1:]]),
    ]
    return [
        StudyFigure(
            "scores",
            f"Scores of {len(shown)} of the networks while they train, by {column}",
            curves(paths, x_label="epochs", y_label="score"),
        ),
        StudyFigure(
            "tau",
            "Kendall after each epoch with its 95 % interval",
            curves(tau, x_label="epochs", y_label="Kendall"),
        ),
    ]


def _sentences(rows: Sequence[AfterEpoch], column: str, scorer: str) -> list[str]:
    first, last = rows[0], rows[-1]
    best = max(rows[1:], key=lambda row: row.gain.value)
    held = min(rows[1:], key=lambda row: row.same_order.value)
    rises = "rises" if last.score > first.score else "does not rise"
    stable = "holds" if held.same_order.low > STABLE else "holds in part"
    stable = stable if held.same_order.value > 0.5 else "does not hold"
    overtaken = next((row.epoch for row in rows[1:] if row.accuracy_tau.value > first.tau.value), None)
    sentences = [
        f"The mean score {rises} while networks train, from {first.score:.1f} to {last.score:.1f} after "
        f"{several(last.epoch, 'epoch')}.",
        f"The article's claim that the order of scores stays the same in training {stable} here: Kendall with the "
        f"scores before training falls no lower than {held.same_order} (epoch {held.epoch}; above {STABLE} counts "
        "as the same).",
        f"{scorer} before training ranks {column} with tau {first.tau}, and best after epoch {best.epoch} with "
        f"{best.tau}: that a few epochs make the score rank better {verdict(best.gain)} (gain {best.gain}, the "
        f"largest of {several(len(rows) - 1, 'epoch')}, so it flatters).",
    ]
    if overtaken is None:
        sentences.append(f"Validation accuracy of these short trainings never ranks better than {scorer} before.")
    else:
        sentences.append(
            f"Who trains anyway may look at validation accuracy instead: from epoch {overtaken} it ranks at least "
            f"as well as {scorer} before training, and at the end with tau {last.accuracy_tau}."
        )
    return sentences


def _data(networks: Sequence[Architecture], scores: Floats, reached: Floats, truth: Floats) -> pd.DataFrame:
    count, moments = scores.shape
    return pd.DataFrame(
        {
            "architecture": np.repeat(list(map(str, networks)), moments),
            "truth": np.repeat(truth, moments),
            "epoch": np.tile(np.arange(moments), count),
            "score": scores.ravel(),
            "validation_accuracy": reached.ravel(),
        }
    )


STUDY = Study(
    "training",
    "Scores while networks train",
    "Does a score rank networks better after a few epochs of training than before?",
    study_training,
)
