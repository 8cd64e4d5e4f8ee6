"""Many rankings on the same architectures: differences, partial correlation, combinations, page and command."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from scipy import stats
from typer.testing import CliRunner

from harness.cli.leaderboard import leaderboard as command
from harness.comparison import Comparison
from harness.records import ScoreContext, ScoreRecord
from harness.store import Store
from reports.combine import log_rank_sum, out_of_sample, rank_average, ranks
from reports.leaderboard import Rankings, beyond_size, combined, fitted, leaderboard, shared_rankings
from reports.leaderboard_page import (
    console_table,
    correlation_against_cost,
    label_at,
    markdown_table,
    spread,
    write_leaderboard,
)
from reports.plots import new_figure
from reports.published import published
from reports.statistics import agreement
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(90, 3, 200)
NEAR, FAR = TRUTH + RNG.normal(0, 2, 200), TRUTH + RNG.normal(0, 12, 200)
NOISE = RNG.normal(size=200)
RANKINGS = Rankings(
    "test_cifar10_200ep", TRUTH, {"near": NEAR, "far": FAR, "noise": NOISE}, {"near": 0.1, "far": 2.0}
)


def rows(rankings: Rankings, **options):
    return {entry.name: entry for entry in leaderboard(rankings, "nasbench201", **options)}


def comparison(name: str, labels: str, scores: list[float]) -> Comparison:
    accuracies = np.array([float(ord(label)) for label in labels])
    return Comparison(name, "truth", tuple(labels), np.array(scores), accuracies, {})


# -- the same architectures


def test_rows_are_compared_on_the_architectures_that_all_hold() -> None:
    found = shared_rankings(
        [comparison("one", "abcd", [1.0, 2.0, 3.0, 4.0]), comparison("two", "dcbe", [40.0, 30.0, 20.0, 0.0])], {}
    )
    assert found.truth.tolist() == [98.0, 99.0, 100.0]
    assert found.scores["one"].tolist() == [2.0, 3.0, 4.0]
    assert found.scores["two"].tolist() == [20.0, 30.0, 40.0]
    assert found.bar is None


def test_a_baseline_of_a_scorers_name_does_not_count_twice() -> None:
    both = [comparison("params", "abc", [1.0, 2.0, 3.0]), comparison("params", "abc", [3.0, 2.0, 1.0])]
    assert shared_rankings(both, {}).scores["params"].tolist() == [1.0, 2.0, 3.0]


def test_too_few_shared_architectures_are_refused() -> None:
    with pytest.raises(InputError, match="share 1 architectures, too few"):
        shared_rankings([comparison("one", "abc", [1.0, 2.0, 3.0]), comparison("two", "cde", [1.0, 2.0, 3.0])], {})


def test_unscored_architectures_rank_last_or_are_left_out_of_every_row() -> None:
    holey = np.where(np.arange(200) < 20, np.nan, NEAR)
    rankings = replace(RANKINGS, scores={"holey": holey, "far": FAR})
    last, dropped = rows(rankings), rows(rankings, unscored="drop")
    assert {entry.agreement.n for entry in last.values()} == {200}
    assert {entry.agreement.n for entry in dropped.values()} == {180}
    assert last["holey"].agreement.unscored == 20
    lowest = np.where(np.isnan(holey), -1e9, holey)
    assert last["holey"].agreement.kendall.value == pytest.approx(stats.kendalltau(lowest, TRUTH).statistic)


# -- the figures


def test_rows_stand_by_kendall_with_the_figures_of_the_other_tables() -> None:
    board = leaderboard(RANKINGS, "nasbench201", resamples=200)
    assert [entry.name for entry in board] == ["near", "far", "noise"]
    for entry in board:
        other = agreement(entry.name, "t", RANKINGS.scores[entry.name], TRUTH, resamples=200)
        assert entry.agreement.kendall.value == other.kendall.value
        assert entry.agreement.spearman.value == pytest.approx(other.spearman.value, abs=1e-12)
        assert entry.agreement.regret == other.regret
        assert abs(entry.agreement.kendall.low - other.kendall.low) < 0.03


def test_the_difference_to_the_best_is_paired() -> None:
    """A ranking that differs from the best in few places is behind for certain, though the intervals overlap."""
    behind = NEAR.copy()
    worst = np.argsort(TRUTH)[:8]
    behind[worst] = behind[worst[::-1]] + 8
    board = rows(replace(RANKINGS, scores={"near": NEAR, "behind": behind}))
    assert board["near"].behind.value == 0
    assert board["near"].as_good_as_best
    assert not board["behind"].as_good_as_best
    assert board["behind"].agreement.kendall.high > board["near"].agreement.kendall.low
    assert board["behind"].behind.value == pytest.approx(
        board["near"].agreement.kendall.value - board["behind"].agreement.kendall.value
    )


def test_equal_rankings_cannot_be_told_apart() -> None:
    board = rows(replace(RANKINGS, scores={"near": NEAR, "scaled": 3 * NEAR}))
    assert all(entry.as_good_as_best and entry.behind.high == 0 for entry in board.values())


def test_what_follows_size_says_nothing_beyond_it() -> None:
    size = TRUTH + RNG.normal(0, 3, 200)
    scores = {"params": size, "copy": size + RNG.normal(0, 0.01, 200), "near": NEAR}
    board = rows(replace(RANKINGS, scores=scores))
    assert abs(board["copy"].beyond_size) < 0.1
    assert board["near"].beyond_size > 0.3
    assert math.isnan(board["params"].beyond_size)
    assert math.isnan(rows(RANKINGS)["near"].beyond_size)


def test_beyond_size_with_one_count_is_kendalls_partial_tau() -> None:
    taus = [stats.kendalltau(*pair).statistic for pair in ((NEAR, TRUTH), (NEAR, FAR), (TRUTH, FAR))]
    expected = (taus[0] - taus[1] * taus[2]) / math.sqrt((1 - taus[1] ** 2) * (1 - taus[2] ** 2))
    assert beyond_size(NEAR, TRUTH, {"flops": FAR}) == pytest.approx(expected)


def test_constant_rankings_and_huge_values_survive_everything(tmp_path: Path) -> None:
    huge = np.exp(NEAR) * 1e20
    rankings = replace(RANKINGS, scores={"huge": huge, "flat": np.zeros(200), "none": np.full(200, np.nan)})
    board = leaderboard(rankings, "nasbench201")
    assert board[0].name == "huge"
    assert math.isnan(board[-1].agreement.kendall.value)
    json.dumps([entry.as_row() for entry in board], allow_nan=False)
    assert markdown_table(board).count("\n") == 5
    assert console_table(board).row_count == 3
    assert write_leaderboard({"t": board}, "nasbench201", {}, tmp_path).is_file()


def test_the_bar_is_a_ranking_by_training_and_the_difference_to_it_is_paired() -> None:
    board = rows(replace(RANKINGS, trained=("far",), bar="far"))
    assert board["far"].trained
    assert board["far"].ahead.value == 0
    assert board["near"].beats_the_bar
    assert not board["noise"].beats_the_bar
    assert board["near"].ahead.value == pytest.approx(
        board["near"].agreement.kendall.value - board["far"].agreement.kendall.value
    )
    assert math.isnan(rows(RANKINGS)["near"].ahead.value)
    assert combined(replace(RANKINGS, trained=("far",)), "rank-average", ["near", "far"]).trained == (
        "far",
        "rank-average: near + far",
    )


# -- combinations


@given(st.lists(st.floats(-1e60, 1e60), min_size=3, max_size=20), st.floats(0.1, 10))
def test_combinations_of_a_ranking_with_itself_keep_its_order(values: list[float], scale: float) -> None:
    scores = np.array(values)
    for combination in (rank_average([scores, scores]), log_rank_sum([scores, scores])):
        assert (stats.rankdata(combination) == stats.rankdata(scores)).all()


def test_ranks_put_what_has_no_value_first() -> None:
    assert ranks(np.array([5.0, np.nan, 7.0, -np.inf])).tolist() == [0.75, 0.375, 1.0, 0.375]


def test_the_log_rank_sum_punishes_one_bad_rank_more_than_the_average_does() -> None:
    one, other = np.array([1.0, 5.0, 3.0, 4.0, 2.0]), np.array([5.0, 1.0, 3.0, 4.0, 2.0])
    assert rank_average([one, other])[0] == rank_average([one, other])[2]
    assert log_rank_sum([one, other])[0] < log_rank_sum([one, other])[2]


def test_two_independent_rankings_are_better_together() -> None:
    other = TRUTH + np.random.default_rng(5).normal(0, 2, 200)
    rankings = combined(
        replace(RANKINGS, scores={"near": NEAR, "other": other}), "rank-average", ["near", "other"]
    )
    assert next(iter(rows(rankings))) == "rank-average: near + other"
    assert rankings.seconds["rank-average: near + other"] == pytest.approx(0.1)


def test_a_pass_that_serves_several_members_costs_once() -> None:
    rankings = replace(
        RANKINGS,
        seconds={"near": 1.0, "far": 1.5, "noise": 0.25},
        passes={"near": "one backward", "far": "one backward", "noise": "noise"},
    )
    name = "rank-average: near + far + noise"
    assert combined(rankings, "rank-average", ["near", "far", "noise"]).seconds[name] == 1.75


def test_a_fit_is_judged_on_what_it_has_not_seen() -> None:
    """Rankings of pure noise fit any k truths well; out of sample they must stay at chance."""
    noise = [np.random.default_rng(seed).normal(size=200) for seed in range(100, 115)]
    found = stats.kendalltau(out_of_sample(noise, TRUTH, 20), TRUTH)
    assert abs(found.statistic) < 0.15
    changed = TRUTH.copy()
    order = np.random.default_rng(0).permutation(200)
    changed[order[40:]] = 0.0
    assert (out_of_sample(noise, TRUTH, 20) == out_of_sample(noise, changed, 20)).all()


def test_a_fit_finds_the_ranking_that_counts() -> None:
    rankings = fitted(RANKINGS, ["near", "far", "noise"], 40)
    name = "fit on 40 (3 rankings)"
    board = rows(rankings)
    assert board[name].trained
    assert board[name].agreement.kendall.value > board["near"].agreement.kendall.value - 0.03


@pytest.mark.parametrize("k", [9, 101])
def test_a_fit_on_too_few_or_too_many_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"--fit {k}: it must be at least 10 and at most half of the 200"):
        fitted(RANKINGS, ["near", "far"], k)


def test_unknown_members_and_methods_are_named() -> None:
    with pytest.raises(InputError, match="unknown ranking 'nearer' to combine; there are near, far, noise"):
        combined(RANKINGS, "rank-average", ["near", "nearer"])
    with pytest.raises(InputError, match="needs at least two"):
        combined(RANKINGS, "rank-average", ["near"])
    with pytest.raises(InputError, match="unknown combination 'mean'; allowed: rank-average, log-rank-sum"):
        combined(RANKINGS, "mean", ["near", "far"])


# -- page and command


def test_published_figures_stand_beside_ours_only_for_the_accuracy_they_are_about() -> None:
    assert published("nasbench201", "test_cifar10_200ep", "zico").startswith("0.61 / 0.8 (ZiCo)")
    assert published("nasbench201", "test_cifar10_12ep", "zico") == ""
    assert published("darts", "test_cifar10_200ep", "zico") == ""


def test_the_page_holds_every_row_and_the_picture(tmp_path: Path) -> None:
    page = write_leaderboard(
        {"truth": leaderboard(RANKINGS, "nasbench201")}, "nasbench201", {"command": "x"}, tmp_path
    )
    text = page.read_text()
    assert all(f"<span>{name}</span>" in text for name in RANKINGS.scores)
    assert (tmp_path / "truth-against-cost.png").read_bytes().startswith(b"\x89PNG")
    assert "://" not in text


def test_the_picture_has_room_for_rows_of_unknown_cost() -> None:
    assert correlation_against_cost(leaderboard(replace(RANKINGS, seconds={}), "x")).startswith(b"\x89PNG")


def test_published_figures_have_a_table_of_their_own_where_there_are_any(tmp_path: Path) -> None:
    rankings = replace(RANKINGS, scores={"meco": NEAR, "far": FAR})
    for space, there in (("nasbench201", True), ("darts", False)):
        text = write_leaderboard({"t": leaderboard(rankings, space)}, space, {}, tmp_path).read_text()
        assert ("<span>– / 0.894 (MeCo)</span>" in text) == there


def test_the_page_says_what_is_best_without_training_and_what_beats_the_bar(tmp_path: Path) -> None:
    rankings = fitted(replace(RANKINGS, trained=("far",), bar="far"), ["near", "noise"], 60)
    board = leaderboard(rankings, "nasbench201")
    text = write_leaderboard({"truth": board}, "nasbench201", {}, tmp_path).read_text()
    assert "For certain better than far without training: near." in text
    best_is_fitted = board[0].name.startswith("fit on 60")
    assert ("Without any training the best is near: " in text) == best_is_fitted
    assert "the bar" in text


def test_names_in_the_picture_cover_no_other_though_points_lie_close() -> None:
    labels = crowded_labels([f"ranking {i}" for i in range(6)])
    assert not any(a.overlaps(b) for i, a in enumerate(labels) for b in labels[:i])


def crowded_labels(names: list[str]) -> list[Bbox]:
    """Where names stand beside points at almost one place."""
    figure = new_figure(4.0)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    placed = [label_at(axes, name, (0.5, 0.5 + 0.005 * i), axes.transData) for i, name in enumerate(names)]
    spread(figure, placed)
    return [label.get_window_extent(FigureCanvasAgg(figure).get_renderer()) for label in placed]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A store with two scorers of 40 cells, and a truth table that the first ranks."""
    cells = [str(cell) for index, cell in enumerate(NASBench201()) if index < 40]
    settings = json.dumps(
        {"input_channels": 3, "image_size": 32, "classes": 10, "channels": 16, "cells": 5, "scorer_version": 1}
    )
    with Store(tmp_path / "s.sqlite") as store:
        for scorer, scale in (("snip", 1.0), ("ntk", 1e61)):
            context = store.score_context(
                ScoreContext("nasbench201", scorer, settings, 0, "cifar10", "hash", 64, "cpu", "torch")
            )
            store.ask(context, [(cell, cell) for cell in cells])
            store.add_scores(context, [ScoreRecord(cell, scale * i, None, 0.5) for i, cell in enumerate(cells)])
    lines = [f"{cell},{50 + i},{i % 7}" for i, cell in enumerate(cells)]
    (tmp_path / "truth.csv").write_text("\n".join(["architecture,accuracy,other", *lines]))
    return tmp_path


def test_the_command_ranks_the_store_and_knows_directions(stored: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    found = CliRunner().invoke(
        app,
        ["--store", f"{stored}/s.sqlite", "--truth", f"{stored}/truth.csv", "--column", "accuracy", "--json",
         "--column", "other", "--rank-average", "snip,params", "--fit", "15", "--baseline", "other",
         "--out", f"{stored}/board"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    board = {row["scorer"]: row for row in document["boards"]["accuracy"]}
    assert board["snip"]["kendall"] == 1
    assert board["ntk"]["kendall"] == -1
    assert board["snip"]["seconds_per_architecture"] == 0.5
    assert board["other"]["needs_training"]
    assert board["other"]["ahead_of_bar"] == 0
    assert set(board) == {
        "snip", "ntk", "params", "flops", "other", "rank-average: snip + params", "fit on 15 (4 rankings)",
    }  # fmt: skip
    assert set(document["boards"]) == {"accuracy", "other"}
    assert Path(document["page"]).is_file()
