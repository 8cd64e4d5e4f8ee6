"""How well one ranking of architectures agrees with their trained accuracy, and how sure that figure is."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from spaces.compiled import compiled
from spaces.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST_PAIRS = 3  # two pairs always correlate perfectly


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; all three are NaN where the figure is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """``0.594 [0.586, 0.602]``, without brackets where there is no interval, ``n/a`` without a value."""
        if math.isnan(self.value):
            return "n/a"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


UNDEFINED = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Agreement:
    """How one ranking agrees with the truth; more is better on both sides, and no sign is ever dropped.

    The correlations are Kendall's tau-b, Spearman's rho and Pearson's r with 95 % percentile bootstrap
    intervals over architectures. The top-k figures are in the unit of the truth (an accuracy in percent is
    usual) and NaN where no architecture has a score.
    """

    scorer: str
    truth: str
    n: int
    """Pairs that the correlations use."""
    unscored: int
    """Architectures with a truth but no score."""
    kendall: Interval
    spearman: Interval
    pearson: Interval
    top_k: int
    """The k used, at most the number of architectures with a truth."""
    top_k_overlap: float
    """Share of the truth's top k that is among the score's top k."""
    best_of_top_k: float
    """Best true value among the score's top k: what training those k and keeping the best would give."""
    regret: float
    """Best true value of all minus ``best_of_top_k``."""
    top_1: float
    """True value of the score's first choice."""

    def as_row(self) -> dict[str, object]:
        """One flat row for JSON or a table: interval ends become ``*_low`` and ``*_high``, NaN becomes None."""
        row: dict[str, object] = {}
        for name, value in vars(self).items():
            if isinstance(value, Interval):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                row[name] = value
        return {
            name: None if value != value else value for name, value in row.items()
        }  # only NaN differs from itself


def agreement(
    scorer: str,
    truth_name: str,
    scores: Floats,
    truth: Floats,
    *,
    unscored: Literal["drop", "last"] = "drop",
    top_k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare ``scores`` with ``truth``, both float64 [n] in the same order of architectures.

    A score that is not finite is no score; rows without a finite truth are left out. ``unscored="drop"``
    leaves architectures without a score out of the correlations; ``"last"`` ranks them below the lowest
    score, all tied, and Pearson, which needs values, is then NaN as soon as there are any.

    Correlations are NaN with fewer than three pairs or where one side is constant. The bootstrap draws
    ``resamples`` times n pairs with replacement, and leaves out draws that are constant; the same seed and n
    give the same draws for every scorer. In the top-k figures architectures without a score always come last
    and ties are broken by the order given, so shuffle first where that order carries information.

    Raises InputError for lengths that differ, ``top_k`` or ``resamples`` below 1.
    """
    if scores.shape != truth.shape or scores.ndim != 1:
        raise InputError(f"scores and truth must be lists of one length, got {scores.shape} and {truth.shape}")
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}")
    known = np.isfinite(truth)
    truth = truth[known].astype(np.float64)
    scores = np.where(np.isfinite(scores[known]), scores[known], np.nan).astype(np.float64)
    scored = ~np.isnan(scores)
    if unscored == "drop":
        x, y = scores[scored], truth[scored]
    else:
        x, y = np.where(scored, scores, -np.inf), truth
    kendall, spearman, pearson = _correlations(x, y, resamples, seed)
    k = min(top_k, len(truth))
    overlap, best, regret, first = _top(scores, truth, k)
    return Agreement(
        scorer=scorer,
        truth=truth_name,
        n=len(x),
        unscored=int(np.count_nonzero(~scored)),
        kendall=kendall,
        spearman=spearman,
        pearson=pearson,
        top_k=k,
        top_k_overlap=overlap,
        best_of_top_k=best,
        regret=regret,
        top_1=first,
    )


def _top(scores: Floats, truth: Floats, k: int) -> tuple[float, float, float, float]:
    """Overlap, best, regret and first choice of the top k; scores [n] with NaN for none, truth [n]."""
    if np.isnan(scores).all():
        return (math.nan,) * 4
    # NaN sorts last, also after the negation that puts the largest first
    chosen = np.argsort(-scores, kind="stable")[:k]
    wanted = np.argsort(-truth, kind="stable")[:k]
    best = float(truth[chosen].max())
    return len(np.intersect1d(chosen, wanted)) / k, best, float(truth.max()) - best, float(truth[chosen[0]])


def _correlations(x: Floats, y: Floats, resamples: int, seed: int) -> tuple[Interval, Interval, Interval]:
    """Kendall, Spearman and Pearson of x and y [n]; -inf in x is a rank without a value: Pearson is NaN."""
    if len(x) < FEWEST_PAIRS or np.all(x == x[0]) or np.all(y == y[0]):
        return UNDEFINED, UNDEFINED, UNDEFINED
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    x_codes, y_codes = _dense_ranks(x), _dense_ranks(y)
    metric = bool(np.isfinite(x[0]))
    x, y = (_unit_range(x) if metric else np.zeros_like(x)), _unit_range(y)
    values = (
        float(stats.kendalltau(x_codes, y_codes).statistic),
        float(stats.spearmanr(x_codes, y_codes).statistic),
        float(stats.pearsonr(x, y).statistic) if metric else math.nan,
    )
    random = np.random.default_rng(seed)
    drawn = np.empty((resamples, 3))
    for row in drawn:
        counts = np.bincount(random.integers(len(x), size=len(x)), minlength=len(x))
        row[0] = weighted_kendall(x_codes, y_codes, counts)
        row[1] = weighted_spearman(x_codes, y_codes, counts)
        row[2] = weighted_pearson(x, y, counts)
    kendall, spearman, pearson = (
        Interval(value, *_percentiles(column)) for value, column in zip(values, drawn.T, strict=True)
    )
    return kendall, spearman, pearson


def _percentiles(values: Floats) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of what is not NaN, NaN where all is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def _dense_ranks(values: Floats) -> Integers:
    """Ranks from 0 without gaps; equal values share one."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


# A bootstrap draw is a count for each pair. So the sorting is done once for all draws: with pairs in the order
# of x, Kendall is one pass over a Fenwick tree of y, and ranks are running sums of counts.

_loop = compiled(nogil=True, error_model="numpy")


def weighted_kendall(x_codes: Integers, y_codes: Integers, counts: Integers) -> float:
    """Kendall's tau-b where pair i stands ``counts[i]`` times; all int64 [n].

    ``x_codes`` ascends, ``y_codes`` are ranks from 0 to at most n - 1. NaN where one side is constant.
    O(n log n).
    """
    return float(_kendall(x_codes, y_codes, counts))


def weighted_pearson(x: Floats, y: Floats, counts: Integers) -> float:
    """Pearson's r of float64 x and y [n] where pair i stands ``counts[i]`` times; NaN where one is constant."""
    return float(_pearson(x, y, counts))


def weighted_spearman(x_codes: Integers, y_codes: Integers, counts: Integers) -> float:
    """Spearman's rho where pair i stands ``counts[i]`` times; codes are ranks from 0 to at most n - 1."""
    return weighted_pearson(_middle_ranks(x_codes, counts), _middle_ranks(y_codes, counts), counts)


@_loop
def _kendall(x_codes: Integers, y_codes: Integers, counts: Integers) -> float:
    n = len(counts)
    tree = np.zeros(n + 1, np.int64)  # Fenwick tree over y: position r + 1 covers rank r
    of_y = np.zeros(n, np.int64)
    seen = 0
    concordant_minus_discordant = 0
    x_ties = 0
    start = 0
    while start < n:
        stop = start
        while stop < n and x_codes[stop] == x_codes[start]:
            if counts[stop]:
                lower = 0
                position = y_codes[stop]
                while position > 0:
                    lower += tree[position]
                    position -= position & -position
                higher = seen - lower - of_y[y_codes[stop]]
                concordant_minus_discordant += counts[stop] * (lower - higher)
            stop += 1
        group = 0
        for i in range(start, stop):
            if counts[i]:
                group += counts[i]
                of_y[y_codes[i]] += counts[i]
                position = y_codes[i] + 1
                while position <= n:
                    tree[position] += counts[i]
                    position += position & -position
        seen += group
        x_ties += group * (group - 1) // 2
        start = stop
    y_ties = 0
    for i in range(n):
        y_ties += of_y[i] * (of_y[i] - 1) // 2
    pairs = seen * (seen - 1) // 2
    if x_ties == pairs or y_ties == pairs:
        return math.nan
    # divided by one root after the other, as scipy does, so that the two agree to the bit
    tau = concordant_minus_discordant / math.sqrt(pairs - x_ties) / math.sqrt(pairs - y_ties)
    return min(1.0, max(-1.0, tau))


@_loop
def _unit_range(values: Floats) -> Floats:
    """Values moved and scaled to [0, 1], which no correlation notices and no square can overflow.

    Empty where they are constant.
    """
    low, high = math.inf, -math.inf
    for value in values:
        low, high = min(low, value), max(high, value)
    if not low < high:
        return np.empty(0)
    scale = max(high, -low)
    low, high = low / scale, high / scale
    return (values / scale - low) / (high - low)


@_loop
def _drawn(values: Floats, counts: Integers) -> Floats:
    """Values that are drawn at least once, without branches that the processor could not foresee."""
    found = np.empty(len(counts) + 1)
    size = 0
    for i in range(len(counts)):
        found[size] = values[i]
        size += counts[i] > 0
    return found[:size]


@_loop
def _centre(values: Floats, counts: Floats) -> None:
    """Take the weighted mean away."""
    total = 0.0
    for i in range(len(counts)):
        total += counts[i] * values[i]
    values -= total / counts.sum()


@_loop
def _pearson(x: Floats, y: Floats, counts: Integers) -> float:
    # scaled anew for each draw: one without the largest values may lie in a tiny part of the range
    u, v = _unit_range(_drawn(x, counts)), _unit_range(_drawn(y, counts))
    if not len(u) or not len(v):
        return math.nan
    weights = _drawn(counts.astype(np.float64), counts)
    _centre(u, weights)
    _centre(v, weights)
    both, of_u, of_v = 0.0, 0.0, 0.0
    for i in range(len(weights)):
        both += weights[i] * u[i] * v[i]
        of_u += weights[i] * u[i] * u[i]
        of_v += weights[i] * v[i] * v[i]
    return min(1.0, max(-1.0, both / math.sqrt(of_u) / math.sqrt(of_v)))


@_loop
def _middle_ranks(codes: Integers, counts: Integers) -> Floats:
    """Mean rank, from 0, of each pair among all ``counts.sum()`` values."""
    ranks = np.zeros(len(codes))
    for i in range(len(codes)):
        ranks[codes[i]] += counts[i]
    before = 0.0
    for code in range(len(codes)):
        size = ranks[code]
        ranks[code] = before + (size - 1) / 2
        before += size
    return ranks[codes]
