"""Rankings of all architectures learnt from the accuracies of a few: a regression, judged on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV

from harness.search.tabular import OnEdges
from reports.statistics import Floats, Interval
from reports.studies.resampling import Indices, kendall, ranks
from spaces.base import Architecture

REPEATS = 50
"""Draws of the architectures that are trained; each is judged on all that were not drawn."""

BEST = 0.1
TOP = 10

PENALTIES = np.logspace(-1, 4, 11)
"""Of the ridge regression, chosen anew for each draw by leaving one out."""


@dataclass(frozen=True, eq=False)
class Learner:
    """What a regression sees, `features` [n, f], in a word, and the accuracies [n] of `epochs` that it learns."""

    sees: str
    features: Floats
    labels: Floats
    epochs: int

    @property
    def name(self) -> str:
        """Features and labels."""
        return f"{self.sees}; {self.epochs} epochs"


@dataclass(frozen=True)
class Learnt:
    """A learner's ranking after `trained` networks: mean and 95 % range over draws of what `worth` says.

    `gain` is tau minus that of the score on the same architectures.
    """

    learner: Learner
    trained: int
    tau: Interval
    best_tau: Interval
    regret: Interval
    gain: Interval


def edge_features(architectures: Sequence[Architecture]) -> list[Floats]:
    """A column [n] for each operation on each edge, 0 or 1; none where architectures have no edges."""
    columns: list[Floats] = []
    texts = [architecture.operations for architecture in architectures if isinstance(architecture, OnEdges)]
    if len(texts) == len(architectures):
        for edge in zip(*texts, strict=True):
            columns += [np.array([present == kind for present in edge], np.float64) for kind in sorted(set(edge))]
    return columns


def learn(learner: Learner, trained: int, truth: Floats, scores: Floats, seed: int) -> Learnt:
    """Train on `trained` architectures, rank the rest, compare with their truth [n]; many times."""
    outcomes = []
    for repeat in range(REPEATS):
        order = np.random.default_rng((seed, repeat)).permutation(len(truth))
        known, others = order[:trained], order[trained:]
        predicted = _predict(learner, known, others)
        tau, best_tau, regret = worth(predicted, truth[others])
        outcomes.append((tau, best_tau, regret, tau - kendall(ranks(scores[others]), truth[others])))
    return Learnt(learner, trained, *(_over_draws(np.array(values)) for values in zip(*outcomes, strict=True)))


def _predict(learner: Learner, known: Indices, others: Indices) -> Floats:
    mean, deviation = learner.features.mean(0), learner.features.std(0)
    features = (learner.features - mean) / np.where(deviation > 0, deviation, 1)
    # Ranks: a few accuracies at chance level would else decide the fit.
    model = RidgeCV(alphas=PENALTIES).fit(features[known], ranks(learner.labels[known]))
    return np.asarray(model.predict(features[others]), dtype=np.float64)


def worth(ranking: Floats, truth: Floats) -> tuple[float, float, float]:
    """Kendall's tau over all [n], the same within the truly best tenth, and the regret of the ranking's top 10.

    Regret is the best truth minus the best among those ten: what is lost if they are trained and the best kept.
    """
    return kendall(ranking, truth), best_tau(ranking, truth), top_regret(ranking, truth)


def best_tau(ranking: Floats, truth: Floats) -> float:
    """Kendall's tau within the truly best tenth."""
    best = truth >= np.quantile(truth, 1 - BEST)
    return kendall(ranking[best], truth[best])


def top_regret(ranking: Floats, truth: Floats) -> float:
    """Best truth minus the best among the ranking's top 10."""
    return float(truth.max() - truth[np.argsort(-ranking, kind="stable")[:TOP]].max())


def _over_draws(values: Floats) -> Interval:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(float(defined.mean()), float(low), float(high))
