"""Figures with intervals: correlations, their differences, partial correlations, shares of variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics import FEWEST_PAIRS, Floats, Integers, Interval, weighted_kendall

Indices = npt.NDArray[np.int64]

RESAMPLES = 1000


def bootstrap(
    statistic: Callable[[Indices], float], count: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """A statistic of indices int64 [count] with its 95 % percentile bootstrap interval.

    The same seed and count give the same draws, so the difference of two statistics may be taken inside. Draws
    in which the statistic is not defined (NaN) are left out.
    """
    value = statistic(np.arange(count))
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(random.integers(count, size=count)) for _ in range(resamples)])
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def kendall(x: Floats, y: Floats) -> float:
    """Kendall's tau-b of float64 x and y [n]; NaN with fewer than three pairs or where one side is constant."""
    if len(x) < FEWEST_PAIRS:
        return math.nan
    order = np.argsort(x, kind="stable")
    return weighted_kendall(_codes(x[order]), _codes(y[order]), np.ones(len(x), np.int64))


def kendall_interval(x: Floats, y: Floats, *, resamples: int = RESAMPLES) -> Interval:
    """Kendall's tau-b over pairs, with its interval."""
    return bootstrap(lambda chosen: kendall(x[chosen], y[chosen]), len(x), resamples=resamples)


def kendall_gain(better: Floats, worse: Floats, y: Floats, *, resamples: int = RESAMPLES) -> Interval:
    """How much more the first ranking agrees with y than the second, on the same resampled pairs [n]."""

    def gain(chosen: Indices) -> float:
        return kendall(better[chosen], y[chosen]) - kendall(worse[chosen], y[chosen])

    return bootstrap(gain, len(y), resamples=resamples)


def partial_kendall(x: Floats, y: Floats, controls: Sequence[Floats]) -> float:
    """Kendall's tau of x and y with the controls held fixed, all float64 [n].

    From the inverse of the matrix of all taus, as Kendall's partial tau extends to several controls; NaN where
    that matrix is singular.
    """
    columns = [x, y, *controls]
    matrix = np.eye(len(columns))
    for row, first in enumerate(columns):
        for column in range(row):
            matrix[row, column] = matrix[column, row] = kendall(first, columns[column])
    if np.isnan(matrix).any() or np.linalg.cond(matrix) > 1e12:
        return math.nan
    inverse = np.linalg.inv(matrix)
    return float(-inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1]))


def variance_shares(values: Floats) -> tuple[float, float, float]:
    """Shares of the variance of values [rows, columns] that rows, columns and neither explain; they add up to 1.

    The two-way decomposition: value = mean + row + column + rest. With a network a row and a draw a column, the
    second share moves all networks alike and changes no rank; the third is what can.
    """
    mean = values.mean()
    rows, columns = values.mean(1, keepdims=True) - mean, values.mean(0, keepdims=True) - mean
    rest = values - mean - rows - columns
    parts = [float((part**2).mean()) for part in (rows, columns, rest)]
    total = sum(parts)
    if total == 0:
        return math.nan, math.nan, math.nan
    return parts[0] / total, parts[1] / total, parts[2] / total


def mean_pairwise_kendall(values: Floats, *, resamples: int = RESAMPLES) -> Interval:
    """Mean tau-b of all pairs of columns of values [rows, columns]: how stable a ranking of the rows is.

    The interval is over columns; a resample leaves out the pairs of a column with itself.
    """
    columns = values.T
    taus = np.array([[kendall(first, second) for second in columns] for first in columns])

    def mean_of_pairs(chosen: Indices) -> float:
        different = np.unique(chosen)
        pairs = taus[np.ix_(different, different)][np.triu_indices(len(different), 1)]
        return float(pairs.mean()) if len(pairs) else math.nan

    return bootstrap(mean_of_pairs, len(columns), resamples=resamples)


def ranks(values: Floats) -> Floats:
    """Ranks from 0 to 1, ties sharing their mean; what is not a number (no score) shares the lowest rank."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return np.asarray((stats.rankdata(filled) - 1) / max(1, len(values) - 1), dtype=np.float64)


def _codes(values: Floats) -> Integers:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
