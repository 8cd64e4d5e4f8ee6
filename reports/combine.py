"""Several rankings as one: rank average, AZ-NAS's log-rank sum, and a regression that never sees its test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from reports.statistics import Floats
from spaces.errors import InputError

FEWEST_FITTED = 10
"""A regression on fewer trained architectures is a guess."""

PENALTIES = np.logspace(-4, 4, 17)
"""Ridge penalties, among which leave-one-out error chooses."""


def ranks(scores: Floats) -> Floats:
    """Ranks of scores [n] from just above 0 to 1, best last; ties share theirs, all without a value come first."""
    return np.asarray(stats.rankdata(np.where(np.isfinite(scores), scores, -np.inf)) / len(scores))


def rank_average(rankings: Sequence[Floats]) -> Floats:
    """Mean of the ranks over rankings of the same n architectures, more is better; float64 [n]."""
    return np.asarray(np.mean([ranks(scores) for scores in rankings], axis=0))


def log_rank_sum(rankings: Sequence[Floats]) -> Floats:
    """Sum of log(rank / n) over the rankings, so that one bad rank weighs most (AZ-NAS, CVPR 2024)."""
    return np.asarray(np.sum([np.log(ranks(scores)) for scores in rankings], axis=0))


METHODS: dict[str, Callable[[Sequence[Floats]], Floats]] = {
    "rank-average": rank_average,
    "log-rank-sum": log_rank_sum,
}
"""Combinations that need no truth."""


def out_of_sample(rankings: Sequence[Floats], truth: Floats, k: int, *, seed: int = 0) -> Floats:
    """Rank that a regression on k trained architectures predicts, each by a fit that has not seen it; float64 [n].

    Ridge regression from the ranks of the n architectures to the ranks of the truth, its penalty chosen by
    leave-one-out error within the k. Those k are predicted by a second fit, on k others.

    Raises:
        InputError: k below 10 or above half of the architectures.
    """
    if not FEWEST_FITTED <= k <= len(truth) // 2:
        raise InputError(
            f"--fit {k}: it must be at least {FEWEST_FITTED} and at most half of the {len(truth)} architectures"
        )
    features = np.column_stack([ranks(scores) for scores in rankings])
    order = np.random.default_rng(seed).permutation(len(truth))
    trained, others = order[:k], order[k : 2 * k]
    predicted = _fitted(features[trained], truth[trained], features)
    predicted[trained] = _fitted(features[others], truth[others], features[trained])
    return predicted


def _fitted(known: Floats, truth: Floats, features: Floats) -> Floats:
    """Ranks predicted for features [m, rankings] from those of k architectures with their truth."""
    from sklearn.linear_model import RidgeCV

    return np.array(RidgeCV(PENALTIES).fit(known, ranks(truth)).predict(features), dtype=np.float64)
