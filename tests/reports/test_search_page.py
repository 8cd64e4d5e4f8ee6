"""Pictures and pages of searches, and the study of their collapse, at sizes that take seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_cli import done

from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.search.stopping import Stop
from reports.search_figures import SearchTrace, draw_searches, operation_weights
from reports.search_page import SearchReport, write_search_page
from reports.studies import collapse
from spaces.nasbench201 import NASBench201

SPACE = NASBench201()
CELLS = ("|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_1x1~2|",)


def epochs(skips: list[int]) -> list[SearchEpoch]:
    """Epochs with these skip-connections, in which skips gain weight on the first of two edges."""
    return [
        SearchEpoch(
            epoch=number,
            architecture=CELLS[0],
            skips=count,
            searching=True,
            operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"),
            learnable=("nor_conv_1x1", "nor_conv_3x3"),
            alphas={"cell": [[0.0, float(count), 0.1, 0.2], [0.0, 0.0, 0.2, 0.1]]},
            learning_rate=0.1,
            train_loss=2.0 / number,
            train_accuracy=50.0,
            validation_loss=1.0,
            validation_accuracy=50.0,
            seconds=float(number),
        )
        for number, count in enumerate(skips, start=1)
    ]


def report(skips: list[int], accuracies: dict[int, float]) -> SearchReport:
    """A search to its last epoch."""
    searched = epochs(skips)
    return SearchReport(
        context=SearchContext("nasbench201", "darts", "{}", "{}", 3, "digits", "0123", "cpu"),
        epochs=searched,
        record=SearchRecord(CELLS[0], "last epoch", len(skips), "all epochs are done", 12.0),
        architecture=SPACE.parse(CELLS[0]),
        accuracies=accuracies,
        trained="trained by the recipe small",
        command="tfnas search",
        next_command="tfnas train",
    )


def test_weights_are_those_of_the_shallowest_edge_or_the_mean_over_edges() -> None:
    (epoch,) = epochs([2])
    first = np.exp([0.0, 2.0, 0.1, 0.2])
    second = np.exp([0.0, 0.0, 0.2, 0.1])
    np.testing.assert_allclose(operation_weights(epoch, shallowest=True), first / first.sum())
    expected = (first / first.sum() + second / second.sum()) / 2
    np.testing.assert_allclose(operation_weights(epoch, shallowest=False), expected)


def test_panel_of_accuracy_is_there_where_accuracies_are_known(tmp_path: Path) -> None:
    heights = []
    for accuracies in ({}, {1: 90.0, 2: 80.0}):
        trace = SearchTrace("seed 0", epochs([1, 2]), accuracies, [Stop("criterion 1", 2, "")])
        (tmp_path / "a.png").write_bytes(draw_searches([trace], accuracy_label="a", shallowest=True))
        heights.append(Image.open(tmp_path / "a.png").size[1])
    assert heights[0] < heights[1]


def test_page_marks_the_stops_of_both_criteria_and_shows_accuracies(tmp_path: Path) -> None:
    page = write_search_page(report([0, 1, 2, *[3] * 9], {1: 91.25, 12: 54.5}), tmp_path).read_text()
    rows = [row for row in page.split("<tr>") if CELLS[0] in row and "data-head" in row]
    assert len(rows) == 12
    assert "criterion 1" in rows[2]
    assert "criterion *" in rows[10]
    assert "91.25" in rows[0]
    assert "54.50" in rows[11]
    assert "last epoch" in rows[11]


def test_stops_name_the_rule_of_the_search_once() -> None:
    assert [stop.rule for stop in report([0, 1], {}).stops()] == ["last epoch"]
    assert [stop.rule for stop in report([0, 2], {}).stops()] == ["criterion 1", "last epoch"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of one epoch of two steps."""
    size = {"epochs": 1, "train_images": 16, "batch_size": 8, "validation_fraction": 0.02, "warmup_epochs": 0}
    monkeypatch.setitem(collapse.SCALES, "reduced", dict.fromkeys(("darts", "pdarts", "pcdarts"), size))


@pytest.mark.usefixtures("tiny")
def test_study_compares_what_searches_stops_and_scores_return(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"architecture": str(cell), "accuracy": 50.0 + str(cell).count("conv")} for cell in SPACE
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "truth.csv", index=False)
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out", "--truth", tmp_path / "truth.csv")
    small = ("--image-size", "8", "--channels", "4", "--cells", "1", "--batch-size", "16", "--sample", "4")
    command = ("study", "collapse", *small, *where, "--column", "accuracy", "--runs", "2", "--scorer", "naswot")
    document = done(*command, "--processes", "1", "--json").document["studies"][0]
    (table,) = document["tables"]
    names = [row[0] for row in table["rows"]]
    assert names == [
        *(f"DARTS{text}" for order in ("first", "second") for text in _rows(order)),
        "P-DARTS's rules",
        "PC-DARTS's rules",
        "best naswot of 4",
        "a random cell",
        "the best cell",
    ]
    data = pd.read_parquet(tmp_path / "out" / "collapse.parquet")
    truth = pd.read_csv(tmp_path / "truth.csv").set_index("architecture")["accuracy"]
    assert len(data) == 2 * 2
    assert (truth[data["architecture"]].to_numpy() == data["accuracy"].to_numpy()).all()
    assert {path.name for path in (tmp_path / "out").glob("collapse-*.png")} == {
        "collapse-first-order.png",
        "collapse-second-order.png",
    }


def _rows(order: str) -> list[str]:
    return [f", {order} order, last epoch", *(f"+, {order} order, criterion {name}" for name in "1*")]
