"""Beyond the article: what averaging draws of a score gains, and what a score knows beside size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from reports.html import Head
from reports.statistics import Floats, Interval
from reports.studies.accuracies import load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import Curve, curves, interval_rows
from reports.studies.resampling import Indices, bootstrap, kendall, partial_kendall, ranks
from reports.studies.scores import counts, measure
from reports.studies.words import names_of, part_name, several, verdict

SAMPLE = 200
"""Architectures that are scored in every draw."""

WIDE_SAMPLE = 1000
"""Architectures of the partial correlations, which take one draw."""

DRAWS = 8
SUBSETS = 20
"""At most so many choices of draws are averaged for each number of them."""

PARTS = (1.0, 0.5)
RESAMPLES = 300

Taus = Mapping[str, Interval]
"""Kendall of one ranking with the truth by what is held fixed."""


def study_averages(setting: StudySetting, bars: Bars) -> Findings:
    """Kendall by the number of draws averaged, and with parameters and FLOPs held fixed."""
    accuracies = load_accuracies(setting)
    column, scorer = accuracies.column, setting.scorers[0]
    wide = accuracies.sample(setting.sample or WIDE_SAMPLE, setting.seed)
    chosen = wide[: setting.sample or SAMPLE]
    draws = setting.runs or DRAWS
    with bars(f"score {scorer} in {draws} draws", draws * len(chosen)) as bar:
        ranked = np.stack(
            [ranks(measure(setting, chosen, bar, seed=setting.seed + draw)) for draw in range(draws)]
        )
    truth = accuracies.values(column, chosen)
    averaged = {part: _by_draws(ranked, truth, part) for part in PARTS}
    single: dict[str, Floats] = {}
    for name in setting.scorers:
        with bars(f"score {name}", len(wide)) as bar:
            single[name] = ranks(measure(setting, wide, bar, scorer=name))
    partial = _partial(single, counts(setting, wide), accuracies.values(column, wide))
    return Findings(
        sentences=tuple(_sentences(scorer, averaged[1.0], _gain(ranked, truth), partial, len(chosen), column)),
        tables=(_averages_table(averaged, column, len(chosen)), _partial_table(partial, column, len(wide))),
        figures=tuple(_figures(averaged, partial, column)),
        data=_data(averaged, partial),
    )


def _by_draws(ranked: Floats, truth: Floats, part: float) -> list[Interval]:
    """Kendall of the mean rank over 1, 2, ... of the draws, within the best part; ranked is [draws, n]."""
    best = truth >= np.quantile(truth, 1 - part)
    statistics = [_mean_tau(ranked[:, best], truth[best], number + 1) for number in range(len(ranked))]
    return [bootstrap(statistic, int(best.sum()), resamples=RESAMPLES) for statistic in statistics]


def _gain(ranked: Floats, truth: Floats) -> Interval:
    """What the mean of all draws ranks better than one of them."""
    one, all_draws = _mean_tau(ranked, truth, 1), _mean_tau(ranked, truth, len(ranked))
    return bootstrap(lambda chosen: all_draws(chosen) - one(chosen), len(truth), resamples=RESAMPLES)


def _mean_tau(ranked: Floats, truth: Floats, number: int) -> Callable[[Indices], float]:
    """Statistic of indices: Kendall of the mean rank over `number` draws, mean over choices of these."""
    choices = np.array(list(combinations(range(len(ranked)), number)))
    spread = choices[np.unique(np.linspace(0, len(choices) - 1, SUBSETS).round().astype(int))]
    means = ranked[spread].mean(1)
    return lambda chosen: float(np.mean([kendall(mean[chosen], truth[chosen]) for mean in means]))


def _partial(rankings: Mapping[str, Floats], sizes: Mapping[str, Floats], truth: Floats) -> dict[str, Taus]:
    """Of each ranking Kendall with the truth [n], holding nothing, each size and all sizes fixed."""
    held: dict[str, list[Floats]] = {"nothing": [], **{name: [values] for name, values in sizes.items()}}
    if len(sizes) > 1:
        held[names_of(list(sizes))] = list(sizes.values())

    def tau(values: Floats, controls: Sequence[Floats]) -> Interval:
        def statistic(chosen: Indices) -> float:
            return partial_kendall(values[chosen], truth[chosen], [control[chosen] for control in controls])

        return bootstrap(statistic, len(truth), resamples=RESAMPLES)

    return {
        name: {fixed: tau(values, controls) for fixed, controls in held.items()}
        for name, values in rankings.items()
    }


def _averages_table(averaged: Mapping[float, list[Interval]], column: str, count: int) -> StudyTable:
    heads = (Head("Draws averaged"), *(Head(f"Kendall, {part_name(part)}") for part in averaged))
    rows = [
        (f"{number}", *map(str, intervals))
        for number, intervals in enumerate(zip(*averaged.values(), strict=True), start=1)
    ]
    note = (
        f"Mean rank over so many draws of batch and initial weights, {several(count, 'architecture')}, against "
        f"{column}; mean over up to {SUBSETS} choices of draws, intervals by bootstrap over architectures."
    )
    return StudyTable("Averages over draws", heads, tuple(rows), note)


def _partial_table(partial: Mapping[str, Taus], column: str, count: int) -> StudyTable:
    held = list(next(iter(partial.values())))
    heads = (Head("Ranking", is_text=True), *(Head(f"{fixed} held fixed") for fixed in held))
    rows = [(name, *(str(taus[fixed]) for fixed in held)) for name, taus in partial.items()]
    note = f"Kendall's partial tau with {column}, {several(count, 'architecture')}; without a score: last."
    return StudyTable("What a score knows beside size", heads, tuple(rows), note)


def _figures(
    averaged: Mapping[float, list[Interval]], partial: Mapping[str, Taus], column: str
) -> list[StudyFigure]:
    series = [
        Curve.of_intervals(part_name(part), list(range(1, len(taus) + 1)), taus) for part, taus in averaged.items()
    ]
    over_draws = curves(series, x_label="draws averaged", y_label=f"Kendall with {column}")
    held = list(next(iter(partial.values())))
    groups = [(name, [taus[fixed] for fixed in held]) for name, taus in partial.items()]
    beside_size = interval_rows([f"{fixed} fixed" for fixed in held], groups, x_label=f"Kendall with {column}")
    return [
        StudyFigure("draws", "Kendall of the mean rank by the number of draws averaged", over_draws),
        StudyFigure("partial", "Kendall with parameters and FLOPs held fixed", beside_size),
    ]


def _sentences(
    scorer: str,
    taus: Sequence[Interval],
    gain: Interval,
    partial: Mapping[str, Taus],
    count: int,
    column: str,
) -> list[str]:
    sentences = [
        f"Over {several(count, 'architecture')} one draw of {scorer} ranks {column} with tau {taus[0]}, the mean "
        f"of {len(taus)} draws with {taus[-1]}: that averaging draws helps {verdict(gain)} (difference {gain})."
    ]
    for name, by_fixed in partial.items():
        fixed, tau = list(by_fixed.items())[-1]
        if fixed != "nothing":
            sentences.append(
                f"With {fixed} held fixed {name} has tau {tau} instead of {by_fixed['nothing']}: that it knows "
                f"more than size {verdict(tau)}."
            )
    return sentences


def _data(averaged: Mapping[float, list[Interval]], partial: Mapping[str, Taus]) -> pd.DataFrame:
    rows = [
        {"figure": "draws", "ranking": f"mean of {number}", "part": part, "fixed": "nothing", **vars(tau)}
        for part, taus in averaged.items()
        for number, tau in enumerate(taus, start=1)
    ] + [
        {"figure": "partial", "ranking": name, "part": 1.0, "fixed": fixed, **vars(tau)}
        for name, taus in partial.items()
        for fixed, tau in taus.items()
    ]
    return pd.DataFrame(rows)


STUDY = Study(
    "averages",
    "More draws, and what is not size",
    "Does averaging over initial weights and batches rank better, and what does a score know beside size?",
    study_averages,
)
