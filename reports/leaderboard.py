"""Many rankings on the same architectures: which is best, by how much, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy import stats

from harness.comparison import Comparison
from harness.records import ScoreContext
from harness.scorers.base import load_scorer, shared_pass
from reports.combine import METHODS, out_of_sample
from reports.published import published
from reports.statistics import (
    FEWEST_PAIRS,
    UNDEFINED,
    Agreement,
    Floats,
    Integers,
    Interval,
    agreement,
    weighted_kendall,
    weighted_spearman,
)
from spaces.errors import InputError

SIZES = ("params", "flops")
"""Rankings by size, which a score must beat to say more than size does."""

BEST_SHARE = 0.1
"""Share of the truth's best architectures among which the order is looked at again."""


@dataclass(frozen=True)
class Entry:
    """One row: a ranking on the architectures that all rows share.

    `behind` is Kendall of the best row minus this row's, bootstrapped over the same draws of architectures;
    where its interval excludes 0, the best is better for certain. `ahead` is the same against the bar: this row's
    Kendall minus that of a ranking by training; NaN where there is none. `in_best` is Kendall among the truth's
    best tenth, `beyond_size` Kendall with parameters and FLOPs held. `seconds` is what the score of one
    architecture takes in one process, building included; NaN where that is not known. `trained` says whether the
    ranking needs trained architectures.
    """

    agreement: Agreement
    behind: Interval
    ahead: Interval
    in_best: Interval
    beyond_size: float
    seconds: float
    trained: bool
    published: str

    @property
    def name(self) -> str:
        """The ranking's name."""
        return self.agreement.scorer

    @property
    def as_good_as_best(self) -> bool:
        """Whether it cannot be told from the best row."""
        return self.behind.low <= 0

    @property
    def beats_the_bar(self) -> bool:
        """Whether it is better than the bar for certain."""
        return self.ahead.low > 0

    def as_row(self) -> dict[str, object]:
        """One flat row for JSON: NaN becomes None."""
        own = {
            "behind_best": self.behind.value,
            "behind_best_low": self.behind.low,
            "behind_best_high": self.behind.high,
            "as_good_as_best": self.as_good_as_best,
            "ahead_of_bar": self.ahead.value,
            "ahead_of_bar_low": self.ahead.low,
            "ahead_of_bar_high": self.ahead.high,
            "kendall_in_best_tenth": self.in_best.value,
            "kendall_in_best_tenth_low": self.in_best.low,
            "kendall_in_best_tenth_high": self.in_best.high,
            "kendall_beyond_size": self.beyond_size,
            "seconds_per_architecture": self.seconds,
            "needs_training": self.trained,
            "published": self.published or None,
        }
        return {name: None if value != value else value for name, value in (self.agreement.as_row() | own).items()}


@dataclass(frozen=True, eq=False)
class Rankings:
    """Scores by name, float64 [n] each, NaN for none, more is better; the truth [n]; seconds an architecture.

    Where `passes` are equal, one pass over an architecture gives both scores. `trained` are the rankings that
    need trained architectures, the first of them the `bar` that the others must beat, if there is one.
    """

    truth_name: str
    truth: Floats
    scores: Mapping[str, Floats]
    seconds: Mapping[str, float]
    passes: Mapping[str, Hashable] = field(default_factory=dict)
    trained: tuple[str, ...] = ()
    bar: str | None = None


def shared_rankings(
    comparisons: Sequence[Comparison], seconds: Mapping[str, float], bars: Sequence[str] = ()
) -> Rankings:
    """The comparisons on the architectures that all of them hold, in the order of the first; a name counts once.

    `seconds` says what an architecture costs, by name, where that is known; `bars` names the rankings by training.

    Raises `InputError` where they share fewer than three.
    """
    first = {comparison.scorer: comparison for comparison in reversed(comparisons)}
    chosen = [first[name] for name in dict.fromkeys(comparison.scorer for comparison in comparisons)]
    common = set.intersection(*(set(comparison.labels) for comparison in chosen))
    labels = [label for label in chosen[0].labels if label in common]
    if len(labels) < FEWEST_PAIRS:
        raise InputError(
            f"the scorers share {len(labels)} architectures, too few to compare; "
            "score the same ones with every scorer, or name fewer with --scorer"
        )
    return Rankings(
        truth_name=chosen[0].truth,
        truth=_aligned(chosen[0], chosen[0].accuracies, labels),
        scores={comparison.scorer: _aligned(comparison, comparison.scores, labels) for comparison in chosen},
        seconds=seconds,
        passes={comparison.scorer: _pass(comparison.context) for comparison in chosen if comparison.context},
        trained=tuple(bars),
        bar=next(iter(bars), None),
    )


def _pass(context: ScoreContext) -> Hashable:
    """Equal for scores that one pass gives, whatever else they need."""
    same = (context.space, context.seed, context.batch, context.device, context.backend)
    return (shared_pass(load_scorer(context.scorer)), *same)


def _aligned(comparison: Comparison, values: Floats, labels: Sequence[str]) -> Floats:
    by_label = dict(zip(comparison.labels, values, strict=True))
    return np.array([by_label[label] for label in labels])


def combined(rankings: Rankings, method: str, members: Sequence[str]) -> Rankings:
    """The rankings and, last, a combination of some of them by a method of `reports.combine.METHODS`.

    Raises `InputError` for an unknown method or member.
    """
    if method not in METHODS:
        raise InputError(f"unknown combination {method!r}; allowed: {', '.join(METHODS)}")
    _check_members(rankings, members)
    return _with(rankings, f"{method}: {' + '.join(members)}", METHODS[method](_of(rankings, members)), members)


def fitted(rankings: Rankings, members: Sequence[str], k: int, seed: int = 0) -> Rankings:
    """The rankings and, last, a regression of the members on k trained architectures, judged out of sample."""
    _check_members(rankings, members)
    scores = out_of_sample(_of(rankings, members), rankings.truth, k, seed=seed)
    name = f"fit on {k} ({len(members)} rankings)"
    return replace(_with(rankings, name, scores, members), trained=(*rankings.trained, name))


def _of(rankings: Rankings, members: Sequence[str]) -> list[Floats]:
    return [rankings.scores[name] for name in members]


def _with(rankings: Rankings, name: str, scores: Floats, members: Sequence[str]) -> Rankings:
    seconds = dict(rankings.seconds)
    if any(member in seconds for member in members):
        passes: dict[Hashable, float] = {}
        for member in members:
            key = rankings.passes.get(member, member)
            passes[key] = max(passes.get(key, 0.0), seconds.get(member, 0.0))
        seconds[name] = sum(passes.values())
    trained = (name,) if set(members) & set(rankings.trained) else ()
    return replace(
        rankings,
        scores={**rankings.scores, name: scores},
        seconds=seconds,
        trained=(*rankings.trained, *trained),
    )


def _check_members(rankings: Rankings, members: Sequence[str]) -> None:
    for member in members:
        if member not in rankings.scores:
            raise InputError(f"unknown ranking {member!r} to combine; there are {', '.join(rankings.scores)}")
    if len(members) < 2:
        raise InputError("a combination needs at least two rankings, separated by commas")


def leaderboard(
    rankings: Rankings,
    space: str,
    *,
    unscored: Literal["drop", "last"] = "last",
    top_k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Entry]:
    """The rankings by Kendall, best first; those that are constant last.

    `unscored="drop"` leaves out the architectures that any ranking lacks; "last" puts them below the lowest
    score, all tied, so that every row is judged on the same architectures either way.

    Raises `InputError` where fewer than three architectures remain.
    """
    rows = {name: np.where(np.isfinite(values), values, np.nan) for name, values in rankings.scores.items()}
    known = np.isfinite(rankings.truth)
    if unscored == "drop":
        known &= np.all([~np.isnan(values) for values in rows.values()], axis=0)
    truth = rankings.truth[known]
    if len(truth) < FEWEST_PAIRS:
        raise InputError(
            f"{len(truth)} architectures have a truth and every score, too few; --unscored last keeps the others"
        )
    rows = {name: values[known] for name, values in rows.items()}
    draws = _draws(len(truth), resamples, seed)
    measured = {name: _Bootstrap.of(_lowest_for_none(values), truth, draws) for name, values in rows.items()}
    best = max(measured, key=lambda name: np.nan_to_num(measured[name].kendall.value, nan=-math.inf))
    in_best = truth >= np.quantile(truth, 1 - BEST_SHARE)
    entries = []
    for name, values in rows.items():
        whole = agreement(name, rankings.truth_name, values, truth, unscored="last", top_k=top_k, resamples=1)
        kept = agreement(
            name, rankings.truth_name, values[in_best], truth[in_best], unscored="last", resamples=resamples
        )
        entries.append(
            Entry(
                agreement=replace(whole, kendall=measured[name].kendall, spearman=measured[name].spearman),
                behind=measured[best].minus(measured[name]),
                ahead=measured[name].minus(measured[rankings.bar]) if rankings.bar else UNDEFINED,
                in_best=kept.kendall,
                beyond_size=math.nan if name in SIZES else beyond_size(values, truth, rows),
                seconds=rankings.seconds.get(name, math.nan),
                trained=name in rankings.trained,
                published=published(space, rankings.truth_name, name),
            )
        )
    return sorted(entries, key=lambda entry: np.nan_to_num(-entry.agreement.kendall.value, nan=math.inf))


def _draws(count: int, resamples: int, seed: int) -> list[Integers]:
    """How often each of `count` architectures stands in each draw with replacement."""
    random = np.random.default_rng(seed)
    return [np.bincount(random.integers(count, size=count), minlength=count) for _ in range(resamples)]


def _lowest_for_none(scores: Floats) -> Floats:
    return np.where(np.isnan(scores), -math.inf, scores)


@dataclass(frozen=True, eq=False)
class _Bootstrap:
    """Kendall and Spearman of one ranking, and Kendall of every draw [resamples]."""

    kendall: Interval
    spearman: Interval
    drawn: Floats

    @classmethod
    def of(cls, scores: Floats, truth: Floats, draws: Sequence[Integers]) -> _Bootstrap:
        """Measure scores [n], -inf for none, against the truth [n]; each draw counts the architectures [n]."""
        order = np.argsort(scores, kind="stable")
        x, y = (np.unique(values[order], return_inverse=True)[1].astype(np.int64) for values in (scores, truth))
        kendalls = np.array([weighted_kendall(x, y, counts[order]) for counts in draws])
        spearmans = np.array([weighted_spearman(x, y, counts[order]) for counts in draws])
        once = np.ones(len(x), np.int64)
        return cls(
            _interval(weighted_kendall(x, y, once), kendalls),
            _interval(weighted_spearman(x, y, once), spearmans),
            kendalls,
        )

    def minus(self, other: _Bootstrap) -> Interval:
        """How much larger Kendall is than another's, draw by draw."""
        return _interval(self.kendall.value - other.kendall.value, self.drawn - other.drawn)


def _interval(value: float, drawn: Floats) -> Interval:
    """The value with the 2.5 and 97.5 percentiles of its draws that are defined."""
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def beyond_size(scores: Floats, truth: Floats, rows: Mapping[str, Floats]) -> float:
    """Partial Kendall of scores and truth with parameters and FLOPs held, as far as `rows` has them.

    From the inverse P of the matrix of Kendall's taus: -P12 / sqrt(P11 P22). NaN without a ranking by size, or
    where one of them is constant.
    """
    held = [rows[name] for name in SIZES if name in rows]
    if not held:
        return math.nan
    variables = [_lowest_for_none(values) for values in (scores, truth, *held)]
    taus = np.array([[stats.kendalltau(a, b).statistic for b in variables] for a in variables])
    if not np.isfinite(taus).all():
        return math.nan
    inverse = np.linalg.pinv(taus, hermitian=True)
    return float(-inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1]))
