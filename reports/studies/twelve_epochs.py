"""What a score buys: rankings by scores, counts and short trainings, and what is learnt from a few of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.html import Head
from reports.statistics import Floats, Interval
from reports.studies.accuracies import AccuracyColumn, load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import Curve, Level, curves
from reports.studies.learning import (
    REPEATS,
    Learner,
    Learnt,
    best_tau,
    edge_features,
    learn,
    top_regret,
)
from reports.studies.resampling import bootstrap, kendall, kendall_gain, ranks
from reports.studies.scores import counts, make_job, measure, seconds_per_score
from reports.studies.words import hundredths, names_of, several, verdict
from spaces.errors import InputError

SAMPLE = 1000
TRAINED = (5, 10, 20, 50, 100)
"""Networks that a regression learns from."""

RESAMPLES = 300

MEASURES = {
    "tau": "Kendall over all",
    "best_tau": "Kendall in the best 10 %",
    "regret": "top-10 regret",
}


@dataclass(frozen=True)
class Ranking:
    """A named ranking [n], its cost, and what it is worth: see `reports.studies.learning.worth`."""

    name: str
    cost: str
    values: Floats
    tau: Interval
    best_tau: Interval
    regret: Interval


def study_twelve_epochs(setting: StudySetting, bars: Bars) -> Findings:
    """Every ranking beside the final accuracy, with what it costs; and how many trainings beat the score."""
    accuracies = load_accuracies(setting)
    ranked = accuracies.ranked()
    short = accuracies.find("val", ranked.dataset, shortest=True)
    full = accuracies.find("val", ranked.dataset)
    if short.epochs == full.epochs:
        raise InputError(f"the truth has no accuracy of a training shorter than {full.name}")
    chosen = accuracies.sample(setting.sample or SAMPLE, setting.seed)
    brief, long = accuracies.values(short.name, chosen), accuracies.values(full.name, chosen)
    kept = np.flatnonzero(~np.isnan(brief) & ~np.isnan(long))
    chosen, brief, long = [chosen[index] for index in kept], brief[kept], long[kept]
    if len(chosen) < 2 * TRAINED[0]:
        raise InputError(f"only {len(chosen)} architectures have all accuracies: this study learns from some")
    truth = accuracies.values(ranked.name, chosen)
    scorer = setting.scorers[0]
    with bars(f"score {scorer}", len(chosen)) as bar:
        scores = ranks(measure(setting, chosen, bar))
    sizes = counts(setting, chosen)
    seconds = seconds_per_score(setting, make_job(setting, chosen))
    scoring = f"{len(chosen):,} scores, {len(chosen) * seconds:,.0f} s"
    training = f"{len(chosen):,} trainings of {short.epochs} epochs"
    twelve = f"{short.epochs} epochs"
    plain = [
        _ranking(scorer, scoring, scores, truth),
        *(_ranking(name, "nothing", values, truth) for name, values in sizes.items()),
        *(
            _ranking(f"{scorer} and {name}", scoring, scores + ranks(values), truth)
            for name, values in sizes.items()
        ),
        _ranking(twelve, training, brief, truth),
        _ranking(f"{scorer} and {twelve}", f"{training}, {scoring}", scores + ranks(brief), truth),
        _ranking(f"{full.epochs} epochs ({full.name})", f"{len(chosen):,} full trainings", long, truth),
    ]
    learners = [
        Learner(sees, np.column_stack(features), labels, epochs)
        for labels, epochs in ((brief, short.epochs), (long, full.epochs))
        for sees, features in _feature_sets(scorer, scores, sizes, edge_features(chosen)).items()
    ]
    sizes_of_training = [trained for trained in TRAINED if trained <= len(chosen) // 2]
    learnt = []
    with bars("regressions", len(learners) * len(sizes_of_training)) as bar:
        for learner in learners:
            for trained in sizes_of_training:
                learnt.append(learn(learner, trained, truth, scores, setting.seed))
                bar.advance()
    return Findings(
        sentences=tuple(_sentences(plain, learnt, truth, scorer, twelve, ranked)),
        tables=(_plain_table(plain, ranked, len(chosen)), _learnt_table(learnt, scorer)),
        figures=tuple(_figure(measure_name, plain[0], learnt, twelve, plain) for measure_name in MEASURES),
        data=_data(plain, learnt),
    )


def _ranking(name: str, cost: str, values: Floats, truth: Floats) -> Ranking:
    tau, best, regret = (
        bootstrap(
            lambda chosen, statistic=statistic: statistic(values[chosen], truth[chosen]),  # type: ignore[misc]
            len(truth),
            resamples=RESAMPLES,
        )
        for statistic in (kendall, best_tau, top_regret)
    )
    return Ranking(name, cost, values, tau, best, regret)


def _feature_sets(
    scorer: str, scores: Floats, sizes: dict[str, Floats], edges: list[Floats]
) -> dict[str, list[Floats]]:
    """What regressions see: score and sizes, the edges too, and these without the score."""
    counted = [ranks(values) for values in sizes.values()]
    sets = {
        names_of([scorer, *sizes]): [scores, *counted],
        names_of([scorer, *sizes, "edges"]): [scores, *counted, *edges] if edges else [],
        names_of([*sizes, "edges"]): [*counted, *edges] if edges else [],
    }
    return {name: features for name, features in sets.items() if features}


def _plain_table(plain: Sequence[Ranking], ranked: AccuracyColumn, count: int) -> StudyTable:
    heads = (Head("Ranking by", is_text=True), Head("Cost", is_text=True), *map(Head, MEASURES.values()))
    rows = [(row.name, row.cost, str(row.tau), str(row.best_tau), hundredths(row.regret)) for row in plain]
    note = (
        f"{several(count, 'architecture')}, their {ranked.name}; intervals by bootstrap over architectures. Two "
        "names: the mean of both ranks. An architecture without a score ranks last. Top-10 regret: points lost if "
        "the ten that rank first are trained and the best is kept."
    )
    return StudyTable("What each ranking is worth, and what it costs", heads, tuple(rows), note)


def _learnt_table(learnt: Sequence[Learnt], scorer: str) -> StudyTable:
    heads = (
        Head("Features", is_text=True),
        Head("Epochs of each"),
        Head("Trained"),
        Head("Epochs in all"),
        *map(Head, MEASURES.values()),
        Head(f"tau minus {scorer}'s"),
    )
    rows = [
        (
            row.learner.sees,
            f"{row.learner.epochs}",
            f"{row.trained}",
            f"{row.trained * row.learner.epochs:,}",
            str(row.tau),
            str(row.best_tau),
            hundredths(row.regret),
            str(row.gain),
        )
        for row in learnt
    ]
    note = (
        "Ridge regression of the rank of accuracy on ranks and on the operation of each edge, penalty chosen by "
        f"leaving one out; mean and 95 % range over {REPEATS} draws of the trained networks, each judged on those "
        "not drawn."
    )
    return StudyTable("Learnt from a few trained networks", heads, tuple(rows), note)


def _figure(
    measure_name: str, score: Ranking, learnt: Sequence[Learnt], twelve: str, plain: Sequence[Ranking]
) -> StudyFigure:
    series = []
    for learner in dict.fromkeys(row.learner.name for row in learnt):
        rows = [row for row in learnt if row.learner.name == learner]
        means = [getattr(row, measure_name).value for row in rows]
        series.append(Curve(learner, [row.trained for row in rows], means))
    (short,) = (row for row in plain if row.name == twelve)
    levels = [
        Level(f"{score.name} alone", getattr(score, measure_name).value),
        Level(f"{twelve} of each", getattr(short, measure_name).value),
    ]
    label = MEASURES[measure_name] + (" (points)" if measure_name == "regret" else "")
    picture = curves(series, x_label="trained networks", y_label=label, levels=levels)
    caption = f"{MEASURES[measure_name]} by the number of networks that a regression learns from, mean over draws"
    return StudyFigure(measure_name.replace("_", "-"), caption, picture)


def _sentences(
    plain: Sequence[Ranking],
    learnt: Sequence[Learnt],
    truth: Floats,
    scorer: str,
    twelve: str,
    ranked: AccuracyColumn,
) -> list[str]:
    by_name = {row.name: row for row in plain}
    score, short, both = by_name[scorer], by_name[twelve], by_name[f"{scorer} and {twelve}"]
    ahead = kendall_gain(short.values, score.values, truth, resamples=RESAMPLES)
    together = kendall_gain(both.values, short.values, truth, resamples=RESAMPLES)
    sentences = [
        f"{twelve} of training rank {ranked.name} with tau {short.tau}, {scorer} without any with {score.tau}: "
        f"that training ranks better {verdict(ahead)} (difference {ahead}).",
        f"Score and {twelve} together rank with tau {both.tau}; that the score adds to a short training "
        f"{verdict(together)} (difference {together}).",
        f"Within the best 10 % the score has tau {score.best_tau}, so that it ranks good architectures among "
        f"themselves {verdict(score.best_tau)}; {twelve} have {short.best_tau}.",
        f"The best of the top 10 is {score.regret.value:.2f} points below the best of all for {scorer}, "
        f"{short.regret.value:.2f} for {twelve} and {both.regret.value:.2f} for both.",
    ]
    for learner in dict.fromkeys(row.learner for row in learnt):
        sentences.append(_crossover(learner, [row for row in learnt if row.learner is learner], scorer))
    return sentences


def _crossover(learner: Learner, rows: Sequence[Learnt], scorer: str) -> str:
    subject = f"A regression on {learner.sees} that learns from trainings of {learner.epochs} epochs"
    first = next((row.trained for row in rows if row.gain.value > 0), None)
    sure = next((row.trained for row in rows if row.gain.low > 0), None)
    if first is None:
        return f"{subject} does not rank better than {scorer} alone with up to {rows[-1].trained} networks."
    surely = f"in 97.5 % of draws from {sure}" if sure else f"not yet in 97.5 % of draws with {rows[-1].trained}"
    return (
        f"{subject} ranks better than {scorer} alone from {several(first, 'network')} on the mean of draws "
        f"({first * learner.epochs:,} epochs), and {surely}."
    )


def _data(plain: Sequence[Ranking], learnt: Sequence[Learnt]) -> pd.DataFrame:
    rows = [
        {"ranking": row.name, "trained": 0, "epochs": 0, "measure": name, **vars(getattr(row, name))}
        for row in plain
        for name in MEASURES
    ] + [
        {
            "ranking": row.learner.name,
            "trained": row.trained,
            "epochs": row.trained * row.learner.epochs,
            "measure": name,
            **vars(getattr(row, name)),
        }
        for row in learnt
        for name in (*MEASURES, "gain")
    ]
    return pd.DataFrame(rows)


STUDY = Study(
    "twelve-epochs",
    "What a score buys beside short trainings",
    "How does a score rank beside 12 epochs of training, and how many trained networks beat it?",
    study_twelve_epochs,
)
