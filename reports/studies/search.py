"""The article's search table: NASWOT, AREA and searches that train, run against a table of accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from harness.search.tabular import SEARCHES, Table, best_of_draws, tabulate
from reports.html import Head
from reports.statistics import Floats, Integers, Interval
from reports.studies.accuracies import Accuracies, load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import Curve, Level, curves
from reports.studies.resampling import bootstrap
from reports.studies.scores import known_scores, make_job, measure, seconds_per_score
from reports.studies.words import hundredths, names_of, points, several, spread_text, verdict

RUNS = 500
"""As many as in the article."""

SAMPLE = 1000
"""Architectures to score where the store holds fewer."""

DRAWS = (10, 100, 1000)

ARTICLE: Mapping[str, tuple[str, ...]] = {
    "one random pick": ("83.20±13.28", "86.61±13.46", "33.34±9.39", "33.13±9.66"),
    "NASWOT N=10": ("89.14±1.14", "92.44±1.13", "41.09±3.97", "41.31±4.11"),
    "NASWOT N=100": ("89.55±0.89", "92.81±0.99", "42.81±3.05", "43.10±3.16"),
    "NASWOT N=1000": ("89.69±0.73", "92.96±0.81", "43.95±2.05", "44.44±2.10"),
    "optimal N=10": ("89.92±0.75", "93.06±0.59", "43.11±1.85", "43.30±1.87"),
    "optimal N=100": ("91.05±0.28", "93.84±0.23", "45.37±0.61", "45.67±0.64"),
    "random search": ("90.93±0.36", "93.70±0.36", "44.45±1.10", "44.57±1.25"),
    "REA": ("91.19±0.31", "93.92±0.30", "45.15±0.89", "45.54±1.03"),
    "AREA": ("91.20±0.27", "", "45.70±1.05", ""),
    "REINFORCE": ("91.09±0.37", "93.85±0.37", "45.05±1.02", "45.24±1.18"),
    "BOHB": ("90.82±0.53", "93.61±0.52", "44.26±1.36", "44.42±1.49"),
}
"""Table 2a of the article: mean and standard deviation in the columns of `ARTICLE_COLUMNS`."""

ARTICLE_COLUMNS = (
    "val_cifar10_200ep",
    "test_cifar10_200ep",
    "val_ImageNet16-120_200ep",
    "test_ImageNet16-120_200ep",
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method answered in each run, as rows of the truth, and what one run of it costs."""

    name: str
    rows: Integers
    cost: str
    by_cost: Integers | None = None
    """Answers [runs, budget] after each trained network, of methods that train."""


def study_search(setting: StudySetting, bars: Bars) -> Findings:
    """Every search many times: accuracies of what it answers, regret, cost, and the article's table beside it."""
    accuracies = load_accuracies(setting)
    everything = list(accuracies.architectures)
    scores, scored, seconds = _scores(setting, accuracies, bars)
    runs = setting.runs or RUNS
    ranked = accuracies.ranked()
    full = accuracies.find("val", ranked.dataset)
    short = accuracies.find("val", ranked.dataset, shortest=True)
    table = tabulate(
        everything,
        short=accuracies.values(short.name, everything),
        full=accuracies.values(full.name, everything),
        full_cost=full.epochs / short.epochs,
        scores=scores,
        scored=scored,
    )
    final = accuracies.values(full.name, everything)
    outcomes = _without_training(scores, scored, final, seconds, runs, setting.seed)
    if table is not None:
        outcomes += _with_training(table, setting, runs, short.epochs, bars)
    shown = sorted(
        accuracies.final(),
        key=lambda column: (column.dataset != ranked.dataset, column.dataset, column.split == "test"),
    )
    truth = accuracies.frame[[column.name for column in shown]]
    target = accuracies.values(accuracies.column, everything)
    return Findings(
        sentences=tuple(_sentences(setting, outcomes, target, accuracies.column, scores, short.name, table)),
        tables=(_table(setting, outcomes, truth, accuracies.column),),
        figures=(_figure(outcomes, target, accuracies.column, short.epochs),) if table is not None else (),
        data=_data(outcomes, truth),
    )


def _scores(setting: StudySetting, accuracies: Accuracies, bars: Bars) -> tuple[Floats, Integers, float]:
    """Scores of all [n], which of them were measured, and seconds of one: all that the store holds.

    A sample is scored first, so that there are some. What was measured and has no score is NaN too.
    """
    chosen = accuracies.sample(setting.sample or SAMPLE, setting.seed)
    job = make_job(setting, chosen)
    with bars(f"score {job.scorer}", len(chosen)) as bar:
        measure(setting, chosen, bar)
    known = known_scores(setting, job)
    texts = list(map(str, accuracies.architectures))
    scores = np.array([known.get(text, np.nan) for text in texts])
    return scores, np.flatnonzero([text in known for text in texts]), seconds_per_score(setting, job)


def _without_training(
    scores: Floats, scored: Integers, final: Floats, seconds: float, runs: int, seed: int
) -> list[Outcome]:
    """One architecture at random, NASWOT's among those that were scored, and the optimum of the same draws."""
    known = np.flatnonzero(~np.isnan(final))
    scored = np.intersect1d(scored, known)
    sizes = [draws for draws in DRAWS if draws <= len(scored)]
    outcomes = [Outcome("one random pick", np.random.default_rng(seed).choice(known, runs), "nothing")]
    for draws in sizes:
        rows = scored[best_of_draws(scores[scored], draws, runs, np.random.default_rng((seed, draws)))]
        outcomes.append(Outcome(f"NASWOT N={draws}", rows, f"{draws:,} scores, {draws * seconds:.2f} s"))
    for draws in sizes:
        rows = scored[best_of_draws(final[scored], draws, runs, np.random.default_rng((seed, draws)))]
        outcomes.append(Outcome(f"optimal N={draws}", rows, f"{draws:,} full trainings"))
    return outcomes


def _with_training(table: Table, setting: StudySetting, runs: int, epochs: int, bars: Bars) -> list[Outcome]:
    outcomes = []
    with bars("searches", len(SEARCHES)) as bar:
        for number, (name, search) in enumerate(SEARCHES.items()):
            answers = search(table, setting.budget, runs, np.random.default_rng((setting.seed, number)))
            cost = f"{setting.budget:,} trainings of {epochs} epochs"
            outcomes.append(Outcome(name, answers[:, -1], cost, answers))
            bar.advance()
    return outcomes


def _table(setting: StudySetting, outcomes: list[Outcome], truth: pd.DataFrame, column: str) -> StudyTable:
    comparable = setting.space.name == "nasbench201" and "_cifar10_" in column
    heads = [Head("Method", is_text=True), Head("Cost of a run", is_text=True)]
    cells = [[outcome.name, outcome.cost] for outcome in outcomes]
    for name in truth.columns:
        heads.append(Head(name, "Mean and standard deviation over runs."))
        for row, outcome in zip(cells, outcomes, strict=True):
            row.append(spread_text(truth[name].to_numpy()[outcome.rows]))
        if comparable and name in ARTICLE_COLUMNS:
            heads.append(Head("Article", f"The same of the article's table 2a: {name}."))
            for row, outcome in zip(cells, outcomes, strict=True):
                row.append(_printed(outcome.name, name))
    heads.append(Head(f"Regret in {column}", "Best of the table minus what is answered, mean with its interval."))
    target = truth[column].to_numpy()
    for row, outcome in zip(cells, outcomes, strict=True):
        row.append(_regret(outcome, target))
    best = {head.name: f"{truth[head.name].max():.2f}" for head in heads if head.name in truth.columns}
    cells.append(["best of the table", "all", *(best.get(head.name, "") for head in heads[2:])])
    note = (
        f"Searches see {column.split('_')[1]} alone, and what they answer is looked up in the other columns. "
        "NASWOT and the optimum draw from what was scored; seconds are those of one core that scored them. "
        "The article gives searches that train 12,000 simulated seconds; this truth has no times, so they get a "
        "number of short trainings instead. BOHB's two lengths are the short and the full training here, in the "
        "article up to 12 epochs."
    )
    return StudyTable("What each search answers", tuple(heads), tuple(map(tuple, cells)), note)


def _printed(method: str, column: str) -> str:
    figures = ARTICLE.get(method)
    return figures[ARTICLE_COLUMNS.index(column)] if figures else ""


def _regret(outcome: Outcome, target: Floats) -> str:
    lost = np.nanmax(target) - target[outcome.rows]
    return hundredths(_mean_interval(lost))


def _mean_interval(values: Floats) -> Interval:
    return bootstrap(lambda chosen: float(values[chosen].mean()), len(values))


def _figure(outcomes: list[Outcome], target: Floats, column: str, epochs: int) -> StudyFigure:
    trained = [outcome for outcome in outcomes if outcome.by_cost is not None]
    series = []
    for outcome in trained:
        values = target[outcome.by_cost]
        spent = np.arange(1, values.shape[1] + 1)
        mean, margin = values.mean(0), 1.96 * values.std(0) / np.sqrt(len(values))
        series.append(Curve(outcome.name, list(spent), list(mean), list(mean - margin), list(mean + margin)))
    levels = [
        Level(f"{outcome.name}, nothing trained", float(target[outcome.rows].mean()))
        for outcome in outcomes
        if outcome.name.startswith("NASWOT")
    ]
    floor = (
        min(float(target[outcome.rows].mean()) for outcome in outcomes if outcome.name.startswith("NASWOT")) - 1
    )
    picture = curves(
        series,
        x_label=f"networks trained for {epochs} epochs",
        y_label=f"{column} of the answer (%)",
        levels=levels,
        floor=floor,
    )
    return StudyFigure(
        "cost", f"{column} of the answer by what was trained: mean over runs with its 95 % interval", picture
    )


def _sentences(
    setting: StudySetting,
    outcomes: list[Outcome],
    target: Floats,
    column: str,
    scores: Floats,
    fitness: str,
    table: Table | None,
) -> list[str]:
    values = {outcome.name: target[outcome.rows] for outcome in outcomes}
    draws = [name for name in values if name.startswith("NASWOT")]
    sentences = [
        f"The store holds a score of {np.count_nonzero(~np.isnan(scores)):,} of {len(scores):,} architectures. "
        f"NASWOT draws from what was scored; {several(len(next(iter(values.values()))), 'run')} of each method."
    ]
    if not draws:
        return sentences
    most = draws[-1]
    for fewer, more in pairwise(draws):
        gain = _gain(values[more], values[fewer])
        sentences.append(
            f"That more draws help the score {verdict(gain)} from {fewer} to {more}: {points(gain)} points in "
            f"{column}."
        )
    if table is None:
        sentences.append(
            "Searches that train are left out: the truth does not hold every combination of operations of the "
            "space, so they would ask for accuracies that are not there."
        )
        return sentences
    rivals = [outcome.name for outcome in outcomes if outcome.by_cost is not None and outcome.name != "AREA"]
    gains = {name: _gain(values[most], values[name]) for name in rivals}
    worse = [name for name, gain in gains.items() if gain.high < 0]
    claim = "does not hold" if worse else "holds"
    sentences.append(
        f"The article's claim that NASWOT finds as good architectures as searches that train {claim} here with "
        f"{several(setting.budget, 'trained network')} by {fitness}: {most} minus each is "
        f"{names_of([f'{points(gain)} points ({name})' for name, gain in gains.items()])}."
    )
    by_cost = next(outcome.by_cost for outcome in outcomes if outcome.name == "random search")
    assert by_cost is not None
    sentences += [_crossover(name, values[name], target[by_cost]) for name in draws]
    sentences.append(_area_sentence(outcomes, target, column))
    return sentences


def _crossover(name: str, answers: Floats, random: Floats) -> str:
    reached = np.flatnonzero(random.mean(0) >= answers.mean())
    if not len(reached):
        return f"{name} is worth more than {several(random.shape[1], 'trained network')} drawn at random."
    return (
        f"{name} is worth {several(int(reached[0]) + 1, 'trained network')}: so many, drawn at random and trained "
        f"short, give the same mean accuracy ({answers.mean():.2f})."
    )


def _area_sentence(outcomes: list[Outcome], target: Floats, column: str) -> str:
    by_cost = {outcome.name: outcome.by_cost for outcome in outcomes}
    area, evolution = by_cost["AREA"], by_cost["REA"]
    assert area is not None
    assert evolution is not None
    budget = area.shape[1]
    few = min(20, budget)
    early = _gain(target[area[:, few - 1]], target[evolution[:, few - 1]])
    late = _gain(target[area[:, -1]], target[evolution[:, -1]])
    return (
        f"That scores give evolution a better start {verdict(early)}: AREA minus REA is {points(early)} points in "
        f"{column} after {several(few, 'trained network')}, and {points(late)} points after {budget:,}, so that "
        f"it also ends better {verdict(late)}."
    )


def _gain(better: Floats, worse: Floats) -> Interval:
    """Difference of two means over runs, with its interval."""
    return _mean_interval(better - worse)


def _data(outcomes: list[Outcome], truth: pd.DataFrame) -> pd.DataFrame:
    """A row a run of a method: the architecture that it answers and its accuracies."""
    frames = [
        truth.iloc[outcome.rows].rename_axis("architecture").reset_index().assign(method=outcome.name)
        for outcome in outcomes
    ]
    return pd.concat(frames, ignore_index=True)


STUDY = Study(
    "search",
    "Searches with and without training",
    "What does a search by scores find, and how many networks must another search train to find as much?",
    study_search,
)
