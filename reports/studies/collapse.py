"""How a differentiable search collapses, and what its stops save: the truth of every derived cell is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.search.differentiable import DifferentiableSearch, differentiable_search
from harness.search.records import SearchEpoch
from harness.search.stopping import CRITERIA, StopRule, first_stop
from harness.search.table import SearchTable
from reports.html import Head
from reports.search_figures import SearchTrace, draw_searches
from reports.statistics import Floats
from reports.studies.accuracies import Accuracies, load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.jobs import run_search
from reports.studies.scores import best_scored, make_job, seconds_per_score
from reports.studies.seeds import seeds_of
from reports.studies.words import named_values, names_of, several, spread_text

SAMPLE = 100
"""Cells that NASWOT scores for each seed, of which it keeps the best."""

REDUCED = {"train_images": 256, "validation_fraction": 0.05, "batch_size": 32}
"""8 steps an epoch, where the published search on CIFAR-10 makes 390."""

SCALES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "published": {"darts": {}, "pdarts": {}, "pcdarts": {}},
    "reduced": {
        "darts": {**REDUCED, "epochs": 20, "alpha_learning_rate": 3.6e-2},
        "pdarts": {**REDUCED, "epochs": 10, "warmup_epochs": 4, "alpha_learning_rate": 4.8e-2},
        "pcdarts": {**REDUCED, "epochs": 20, "warmup_epochs": 6, "alpha_learning_rate": 1.8e-2},
    },
}
"""What each method replaces in its published recipe.

A reduced search has 2/5 of the epochs and of the warm-up. The learning rate of the alphas times the steps in which
they move is as published, so that they can go as far.
"""

ORDERS = {1: "first order", 2: "second order"}

RULES: Mapping[str, StopRule] = {rule.name: rule for rule in CRITERIA}
"""Those of DARTS+, asked afterwards about searches that ran past them."""

IMPLICIT = {"pdarts": "P-DARTS's rules", "pcdarts": "PC-DARTS's rules"}


@dataclass(frozen=True)
class Answer:
    """What a method returned: accuracy in percent, the epoch it is of, seconds of wall clock."""

    architecture: str
    accuracy: float
    epoch: int | None
    seconds: float


def study_collapse(setting: StudySetting, bars: Bars) -> Findings:
    """Searches of both orders past their stops, others to their end, and NASWOT, all on a space with a truth."""
    accuracies = load_accuracies(setting)
    truth = {str(text): float(value) for text, value in accuracies.frame[accuracies.column].items()}
    seeds = seeds_of(setting)
    answers: dict[str, list[Answer]] = {}
    traces: dict[int, list[SearchTrace]] = {}
    for order, name in ORDERS.items():
        searches = [_search(setting, "darts", {"order": order}, seed, bars) for seed in seeds]
        traces[order] = [
            _trace(f"seed {seed}", epochs, truth) for seed, epochs in zip(seeds, searches, strict=True)
        ]
        answers[f"DARTS, {name}, last epoch"] = [_answer(epochs, None, truth) for epochs in searches]
        for rule_name, rule in RULES.items():
            answers[f"DARTS+, {name}, {rule_name}"] = [_answer(epochs, rule, truth) for epochs in searches]
    for method, name in IMPLICIT.items():
        answers[name] = [_answer(_search(setting, method, {}, seed, bars), None, truth) for seed in seeds]
    sample = setting.sample or SAMPLE
    by_score = f"best {setting.scorers[0]} of {sample}"
    answers[by_score] = [_best_score(setting, accuracies, sample, seed, bars) for seed in seeds]
    values = accuracies.values(accuracies.column, accuracies.architectures)
    return Findings(
        sentences=tuple(_sentences(answers, traces, values)),
        tables=(_table(answers, values, setting),),
        figures=tuple(_figure(order, searches, accuracies.column) for order, searches in traces.items()),
        data=_data(traces),
    )


def _search(
    setting: StudySetting, method: str, settings: dict[str, Any], seed: int, bars: Bars
) -> list[SearchEpoch]:
    """Every epoch of a search, from the store where they are there."""
    scaled = {**SCALES[setting.scale][method], **settings, "past_stop": True}
    search: DifferentiableSearch = differentiable_search(method, scaled)
    name = "-".join(map(str, (method, *settings.values())))
    job, _ = run_search(setting, search, name, f"{method} {settings or ''} seed {seed}", seed, bars)
    table = SearchTable(setting.store)
    return table.epochs(table.context(search.context(job)))


def _trace(name: str, epochs: Sequence[SearchEpoch], truth: Mapping[str, float]) -> SearchTrace:
    stops = [stop for rule in RULES.values() if (stop := first_stop([rule], epochs))]
    return SearchTrace(name, epochs, {epoch.epoch: truth[epoch.architecture] for epoch in epochs}, stops)


def _answer(epochs: Sequence[SearchEpoch], rule: StopRule | None, truth: Mapping[str, float]) -> Answer:
    """What a search returns that stops by a rule, or at its end where the rule never asks for it."""
    stop = first_stop([rule], epochs) if rule else None
    last = epochs[stop.epoch - 1] if stop else epochs[-1]
    return Answer(last.architecture, truth[last.architecture], last.epoch, last.seconds)


def _best_score(setting: StudySetting, accuracies: Accuracies, count: int, seed: int, bars: Bars) -> Answer:
    """The cell of the highest score among `count` drawn by the seed."""
    drawn = accuracies.sample(count, seed)
    best = best_scored(setting, drawn, seed, bars)
    seconds = len(drawn) * seconds_per_score(setting, make_job(setting, drawn, seed=seed))
    return Answer(str(best), float(accuracies.values(accuracies.column, [best])[0]), None, seconds)


def _table(answers: Mapping[str, Sequence[Answer]], values: Floats, setting: StudySetting) -> StudyTable:
    best = float(np.nanmax(values))
    heads = (
        Head("Method", is_text=True),
        Head("Accuracy", "Test accuracy in the truth table of what is returned: mean and deviation over seeds."),
        Head("Regret", "How far the mean is below the best of the table."),
        Head("Epoch", "After which the cell is taken, for each seed.", True),
        Head("Seconds", "Wall clock up to that epoch, mean over seeds."),
    )
    rows = []
    for name, found in answers.items():
        accuracy = np.array([answer.accuracy for answer in found])
        rows.append(
            (
                name,
                spread_text(accuracy),
                f"{best - accuracy.mean():.2f}",
                ", ".join(str(answer.epoch) for answer in found if answer.epoch is not None),
                f"{np.mean([answer.seconds for answer in found]):.0f}",
            )
        )
    rows.append(("a random cell", spread_text(values), f"{best - np.nanmean(values):.2f}", "", "0"))
    rows.append(("the best cell", f"{best:.2f}", "0.00", "", ""))
    replaced = named_values(SCALES[setting.scale]["darts"])
    return StudyTable(
        "What each method returns",
        heads,
        tuple(rows),
        f"Searches on {setting.dataset_name} at {setting.training_config}"
        + (f", with {replaced} in place of the published settings." if replaced else ".")
        + " A criterion that never asked for a stop returns the last epoch.",
    )


def _figure(order: int, traces: Sequence[SearchTrace], column: str) -> StudyFigure:
    picture = draw_searches(traces, accuracy_label=f"{column}\nof the derived cell", shallowest=False)
    caption = f"DARTS of {ORDERS[order]}: what each epoch would return, with the stops of both criteria"
    return StudyFigure(ORDERS[order].replace(" ", "-"), caption, picture)


def _data(traces: Mapping[int, Sequence[SearchTrace]]) -> pd.DataFrame:
    """A row an epoch."""
    return pd.DataFrame(
        {
            "order": order,
            "search": trace.name,
            "epoch": epoch.epoch,
            "architecture": epoch.architecture,
            "accuracy": trace.accuracy(epoch.epoch),
            "skips": epoch.skips,
            "train_loss": epoch.train_loss,
            "validation_loss": epoch.validation_loss,
            "seconds": epoch.seconds,
        }
        for order, searches in traces.items()
        for trace in searches
        for epoch in trace.epochs
    )


def _sentences(
    answers: Mapping[str, Sequence[Answer]], traces: Mapping[int, Sequence[SearchTrace]], values: Floats
) -> list[str]:
    sentences = []
    for order, searches in traces.items():
        skips = [trace.epochs[-1].skips for trace in searches]
        last = [trace.accuracy(trace.epochs[-1].epoch) for trace in searches]
        highest = [max(trace.accuracies.values()) for trace in searches]
        sentences.append(
            f"DARTS of {ORDERS[order]} ends with {names_of(skips)} skip-connections and "
            f"{np.mean(last):.2f} % on average; the best cell on its way had {np.mean(highest):.2f} %."
        )
    mean = {name: float(np.mean([answer.accuracy for answer in found])) for name, found in answers.items()}
    for name in ORDERS.values():
        end = mean[f"DARTS, {name}, last epoch"]
        gains = names_of([f"{rule} {mean[f'DARTS+, {name}, {rule}'] - end:+.2f}" for rule in RULES])
        sentences.append(f"Against the last epoch of {name} the stops of DARTS+ gain, in points: {gains}.")
    best = max(mean, key=mean.__getitem__)
    beaten = [name for name in answers if mean[name] < float(np.nanmean(values))]
    sentences.append(f"The best here is {best}, with {mean[best]:.2f} %.")
    if beaten:
        sentences.append(
            f"{several(len(beaten), 'method')} of {len(answers)} return worse cells than a random pick does on "
            f"average: {names_of(beaten)}."
        )
    return sentences


STUDY = Study(
    "collapse",
    "Where differentiable search ends, and where it should have stopped",
    "What would a search return after each epoch, and do the stops of DARTS+ save it from its end?",
    study_collapse,
)
