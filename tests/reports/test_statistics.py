"""Agreement of a ranking with the truth."""

import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from reports.statistics import Interval, agreement, weighted_kendall, weighted_pearson, weighted_spearman
from spaces.errors import InputError

SCORES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
TRUTH = np.array([80.0, 70.0, 90.0, 85.0, 92.0, 75.0])


@st.composite
def draws(draw):
    """Two sides with many ties, the first ascending, and how often each pair was drawn."""
    n = draw(st.integers(3, 40))
    levels = draw(st.integers(1, n))
    sides = arrays(np.int64, n, elements=st.integers(0, levels - 1))
    counts = draw(arrays(np.int64, n, elements=st.integers(0, 3)))
    assume(counts.sum() >= 2)
    return np.sort(draw(sides)), draw(sides), counts


def is_constant(values):
    return len(np.unique(values)) < 2


@settings(max_examples=300, deadline=None)
@given(draws())
def test_weighted_kendall_equals_scipy_on_repeated_pairs(drawn):
    x, y, counts = drawn
    repeated_x, repeated_y = np.repeat(x, counts), np.repeat(y, counts)
    if is_constant(repeated_x) or is_constant(repeated_y):
        assert math.isnan(weighted_kendall(x, y, counts))
    else:
        expected = stats.kendalltau(repeated_x, repeated_y).statistic
        assert weighted_kendall(x, y, counts) == expected


@settings(max_examples=200, deadline=None)
@given(draws())
def test_weighted_spearman_and_pearson_equal_scipy_on_repeated_pairs(drawn):
    x, y, counts = drawn
    repeated_x, repeated_y = np.repeat(x, counts), np.repeat(y, counts)
    pearson = weighted_pearson(x.astype(float), y.astype(float), counts)
    if is_constant(repeated_x) or is_constant(repeated_y):
        assert math.isnan(weighted_spearman(x, y, counts))
        assert math.isnan(pearson)
    else:
        expected = stats.spearmanr(repeated_x, repeated_y).statistic
        assert weighted_spearman(x, y, counts) == pytest.approx(expected, abs=1e-12)
        assert pearson == pytest.approx(stats.pearsonr(repeated_x, repeated_y).statistic, abs=1e-12)


def test_values_are_those_of_scipy():
    result = agreement("naswot", "test", SCORES, TRUTH)
    assert result.kendall.value == stats.kendalltau(SCORES, TRUTH).statistic
    assert result.spearman.value == pytest.approx(stats.spearmanr(SCORES, TRUTH).statistic)
    assert result.pearson.value == pytest.approx(stats.pearsonr(SCORES, TRUTH).statistic)
    assert (result.scorer, result.truth, result.n, result.unscored) == ("naswot", "test", 6, 0)


def test_a_reversed_ranking_has_negative_correlations():
    result = agreement("naswot", "test", -SCORES, SCORES)
    kendall = result.kendall
    assert (kendall.value, kendall.low, kendall.high) == pytest.approx((-1, -1, -1))
    assert result.spearman.value == pytest.approx(-1)
    assert result.pearson.value == pytest.approx(-1)


def test_the_interval_holds_what_scipy_gives_on_the_same_resamples():
    result = agreement("naswot", "test", SCORES, TRUTH, resamples=200, seed=3)
    random = np.random.default_rng(3)
    order = np.argsort(SCORES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taus = []
        for _ in range(200):
            picked = order[random.integers(6, size=6)]
            taus.append(stats.kendalltau(SCORES[picked], TRUTH[picked]).statistic)
    low, high = np.nanpercentile(taus, (2.5, 97.5))
    assert (result.kendall.low, result.kendall.high) == pytest.approx((low, high))


def test_the_interval_covers_the_value_and_narrows_with_more_architectures():
    random = np.random.default_rng(0)
    truth = random.normal(size=2000)
    scores = truth + random.normal(size=2000)
    few = agreement("naswot", "test", scores[:50], truth[:50]).kendall
    many = agreement("naswot", "test", scores, truth).kendall
    assert few.low < few.value < few.high
    assert many.low < many.value < many.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_one_seed_gives_one_interval_and_another_seed_another():
    first, again, other = (agreement("naswot", "test", SCORES, TRUTH, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.pearson.low != other.pearson.low
    assert first.pearson.value == other.pearson.value


def test_unscored_architectures_are_dropped_or_ranked_last():
    scores = np.append(SCORES, [np.nan, np.nan])
    truth = np.append(TRUTH, [10.0, 99.0])
    dropped = agreement("naswot", "test", scores, truth)
    last = agreement("naswot", "test", scores, truth, unscored="last")
    assert (dropped.n, dropped.unscored, last.n, last.unscored) == (6, 2, 8, 2)
    assert dropped.kendall == agreement("naswot", "test", SCORES, TRUTH).kendall
    lowest = np.where(np.isnan(scores), -1e9, scores)
    assert last.kendall.value == stats.kendalltau(lowest, truth).statistic
    assert last.spearman.value == pytest.approx(stats.spearmanr(lowest, truth).statistic)
    assert math.isnan(last.pearson.value)


def test_an_infinite_score_counts_as_no_score():
    scores = np.append(SCORES, [-np.inf, np.inf])
    result = agreement("naswot", "test", scores, np.append(TRUTH, [10.0, 99.0]))
    assert (result.n, result.unscored) == (6, 2)
    assert result.top_1 == 92.0


def test_architectures_without_a_truth_are_left_out():
    result = agreement("naswot", "test", np.append(SCORES, [100.0, np.nan]), np.append(TRUTH, [np.nan, np.nan]))
    assert result == agreement("naswot", "test", SCORES, TRUTH)


def test_top_k_figures_by_hand():
    scores = np.array([5.0, 4.0, np.nan, 2.0, 1.0])
    truth = np.array([70.0, 90.0, 95.0, 80.0, 60.0])
    result = agreement("naswot", "test", scores, truth, top_k=2)
    assert result.top_k == 2
    assert result.top_k_overlap == 0.5
    assert result.best_of_top_k == 90.0
    assert result.regret == 5.0
    assert result.top_1 == 70.0


def test_ties_in_the_top_k_are_broken_by_the_order_given():
    scores = np.array([1.0, 2.0, 2.0, 2.0])
    result = agreement("naswot", "test", scores, np.array([1.0, 2.0, 3.0, 4.0]), top_k=2)
    assert result.top_1 == 2.0
    assert result.best_of_top_k == 3.0


def test_top_k_is_at_most_the_number_of_architectures():
    result = agreement("naswot", "test", SCORES, TRUTH, top_k=100)
    assert (result.top_k, result.top_k_overlap, result.regret) == (6, 1.0, 0.0)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ([], []),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        ([0.1, 0.2, 0.3, 0.4], [10.0, 10.0, 10.0, 10.0]),
        ([np.nan] * 4, [1.0, 2.0, 3.0, 4.0]),
    ],
    ids=["empty", "two pairs", "constant score", "constant truth", "no score"],
)
@pytest.mark.parametrize("unscored", ["drop", "last"])
def test_undefined_correlations_are_nan_without_warnings(scores, truth, unscored):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = agreement("naswot", "test", np.array(scores), np.array(truth), unscored=unscored)
    for interval in (result.kendall, result.spearman, result.pearson):
        assert math.isnan(interval.value)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
    assert json.loads(json.dumps(result.as_row(), allow_nan=False))["kendall"] is None


def test_no_score_at_all_has_no_top_k():
    result = agreement("naswot", "test", np.full(4, np.nan), np.arange(4.0))
    assert result.unscored == 4
    assert math.isnan(result.top_1)
    assert math.isnan(result.regret)


def test_resamples_that_are_constant_are_left_out_of_the_interval():
    scores = np.array([0.0, 0.0, 0.0, 0.0, 1.0])  # a third of all resamples miss the last pair
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = agreement("naswot", "test", scores, np.arange(5.0))
    assert not math.isnan(result.kendall.low)
    assert result.kendall.low <= result.kendall.value <= result.kendall.high


@pytest.mark.parametrize("scale", [1e-61, 1e61, 1e300])
def test_correlations_do_not_change_with_the_scale_of_a_score(scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = agreement("synflow", "test", SCORES * scale, TRUTH)
    plain = agreement("synflow", "test", SCORES, TRUTH)
    assert scaled.pearson.value == pytest.approx(plain.pearson.value)
    assert scaled.pearson.low == pytest.approx(plain.pearson.low)
    assert scaled.kendall == plain.kendall


def test_scores_that_span_29_decades_keep_every_figure():
    scores = 10.0 ** np.linspace(32, 61, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = agreement("synflow", "test", scores, np.linspace(80, 94, 30))
    assert result.kendall.low == pytest.approx(1)
    assert 0 < result.pearson.low < result.pearson.value < 1


def test_a_row_is_flat_and_fit_for_json():
    row = agreement("naswot", "test", SCORES, TRUTH).as_row()
    assert list(row) == [
        *("scorer", "truth", "n", "unscored", "kendall", "kendall_low", "kendall_high"),
        *("spearman", "spearman_low", "spearman_high", "pearson", "pearson_low", "pearson_high"),
        *("top_k", "top_k_overlap", "best_of_top_k", "regret", "top_1"),
    ]
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_an_interval_reads_as_text():
    assert str(Interval(0.5944, 0.5867, 0.6028)) == "0.594 [0.587, 0.603]"
    assert str(Interval(math.nan, math.nan, math.nan)) == "n/a"


def test_bad_input_names_the_field():
    with pytest.raises(InputError, match="one length"):
        agreement("naswot", "test", SCORES, TRUTH[:3])
    with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
        agreement("naswot", "test", SCORES, TRUTH, top_k=0)
    with pytest.raises(InputError, match="resamples must be at least 1, got 0"):
        agreement("naswot", "test", SCORES, TRUTH, resamples=0)


def test_twelve_epochs_rank_the_whole_space_at_kendall_0_594_within_seconds(real_data: Path):
    table = pd.read_parquet(real_data / "nasbench201_accuracy.parquet")
    scores, truth = table["val_cifar10_12ep"].to_numpy(), table["test_cifar10_200ep"].to_numpy()
    agreement("val_cifar10_12ep", "test_cifar10_200ep", scores[:100], truth[:100])
    start = time.process_time()
    result = agreement("val_cifar10_12ep", "test_cifar10_200ep", scores, truth)
    assert time.process_time() - start < 6
    assert result.n == 15625
    assert result.kendall.value == pytest.approx(0.594, abs=5e-4)
    assert result.kendall.low == pytest.approx(0.587, abs=2e-3)
    assert result.kendall.high == pytest.approx(0.603, abs=2e-3)
