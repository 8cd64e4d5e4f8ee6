"""Studies by their command: small runs on the embedded images, against accuracies made here."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import done, tfnas

from harness.store import Store
from reports.studies import scores
from reports.studies.learning import Learner, learn
from reports.studies.resampling import kendall, partial_kendall, variance_shares
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201

TINY = ("--image-size", 8, "--channels", 2, "--cells", 1, "--batch-size", 16, "--processes", 1)
SPACE = NASBench201()
CELLS = [str(cell) for cell in SPACE]
SOME = CELLS[::250]

ARGUMENTS = {
    "kernels": ("--sample", 12),
    "scatter": ("--sample", 24),
    "robustness": ("--runs", 2),
    "training": ("--sample", 4, "--epochs", 1),
    "search": ("--sample", 20, "--runs", 40, "--budget", 20),
    "twelve-epochs": ("--sample", 24),
    "averages": ("--sample", 12, "--runs", 2),
    "peers": (),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracies that grow with the number of convolutions, so that a score has something to rank."""
    folder = tmp_path_factory.mktemp("tables")
    convolutions = np.array([text.count("conv") for text in CELLS])
    noise = np.random.default_rng(0).standard_normal((4, len(CELLS)))
    names = ("val_digits_12ep", "val_digits_200ep", "test_digits_200ep")
    columns = {name: 50 + 5 * convolutions + noise[row] for row, name in enumerate(names)}
    frame = pd.DataFrame({"architecture": CELLS, **columns})
    frame.to_parquet(folder / "all.parquet")
    some = frame[frame["architecture"].isin(SOME)]
    some.to_parquet(folder / "some.parquet")
    few = some.head(12).rename(columns={"val_digits_200ep": "val_accuracy"})[["architecture", "val_accuracy"]]
    few.assign(params=few["val_accuracy"], noise=noise[3, :12]).to_parquet(folder / "peers.parquet")
    return folder


def study(name: str, folder: Path, tables: Path, *arguments: object) -> Any:
    """What `tfnas study --json` prints."""
    truth = tables / ("all.parquet" if name == "search" else "some.parquet")
    where = ("--store", folder / "s.sqlite", "--out", folder / "out", "--peers", tables / "peers.parquet")
    accuracy = ("--truth", truth, "--column", "test_digits_200ep")
    given = (*TINY, "--scorer", "naswot", *where, *accuracy, *ARGUMENTS.get(name, ()), *arguments)
    return done("study", name, *given, "--json").document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Path:
    """Every study of the article, once, in one store and one folder."""
    folder = tmp_path_factory.mktemp("studies")
    for name in ARGUMENTS:
        study(name, folder, tables)
    return folder


def rows_in(path: Path) -> dict[str, int]:
    with Store(path) as store:
        names = ("scores", "kernels", "scores_in_training")
        return {name: store.rows(f"SELECT COUNT(*) FROM {name}")[0][0] for name in names}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_study_answers_in_sentences_and_saves_its_table_and_pictures(name: str, folder: Path) -> None:
    import json

    document = json.loads((folder / "out" / f"{name}.json").read_text())
    assert document["sentences"]
    assert all("nan" not in sentence for sentence in document["sentences"])
    for table in document["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["heads"])}
    assert document["made"]["command"].startswith(f"tfnas study {name}")
    assert len(pd.read_parquet(folder / "out" / f"{name}.parquet"))
    for figure in document["figures"]:
        assert (folder / "out" / figure["file"]).read_bytes().startswith(b"\x89PNG")


def test_one_page_shows_all_studies_and_needs_no_other_file(folder: Path) -> None:
    page = (folder / "out" / "index.html").read_text()
    assert all(f"tfnas study {name}" in page for name in ARGUMENTS)
    assert 'src="http' not in page


@pytest.mark.parametrize("name", ["kernels", "training"])
def test_the_same_study_again_measures_nothing_and_finds_the_same(name: str, folder: Path, tables: Path) -> None:
    before, found = rows_in(folder / "s.sqlite"), pd.read_parquet(folder / "out" / f"{name}.parquet")
    study(name, folder, tables)
    assert rows_in(folder / "s.sqlite") == before
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "out" / f"{name}.parquet"), found)


def test_before_training_the_order_of_scores_is_itself(folder: Path) -> None:
    table = pd.read_parquet(folder / "out" / "training.parquet")
    assert list(table["epoch"].unique()) == [0, 1]
    assert table[table["epoch"] == 0]["validation_accuracy"].isna().all()
    assert table[table["epoch"] > 0]["validation_accuracy"].notna().all()


def test_the_optimum_of_the_draws_is_no_worse_than_what_the_score_chooses(folder: Path) -> None:
    table = pd.read_parquet(folder / "out" / "search.parquet")
    mean = table.groupby("method")["val_digits_200ep"].mean()
    assert mean["one random pick"] < mean["NASWOT N=10"] < mean["optimal N=10"]
    assert (table.groupby("method").size() == 40).all()
    assert {"random search", "REA", "AREA", "REINFORCE", "BOHB"} < set(mean.index)


def test_searches_that_train_need_the_whole_space_and_say_so(tmp_path: Path, tables: Path) -> None:
    found = study("search", tmp_path, tables, "--truth", tables / "some.parquet")["studies"][0]
    assert not any(row[0] == "REA" for row in found["tables"][0]["rows"])
    assert any("left out" in sentence for sentence in found["sentences"])


def test_published_scores_stand_beside_ours_of_the_same_architectures(folder: Path) -> None:
    table = pd.read_parquet(folder / "out" / "peers.parquet").set_index("scorer")
    assert {"naswot (ours)", "params (ours)", "params", "noise"} <= set(table.index)
    assert table.loc["params", "kendall"] == pytest.approx(1)


def test_a_study_without_what_it_needs_says_what_is_missing(tmp_path: Path, tables: Path) -> None:
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out")
    assert "--peers" in tfnas("study", "peers", *where).err
    assert "--truth" in tfnas("study", "scatter", *where).err
    truth = ("--truth", tables / "some.parquet")
    assert "test_digits_200ep" in tfnas("study", "scatter", *where, *truth).err


def test_draws_that_all_lack_a_score_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "measure", lambda setting, drawn, bar, seed: np.full(len(drawn), np.nan))
    setting = SimpleNamespace(scorers=("naswot",))
    with pytest.raises(InputError, match="none of the 3 architectures drawn has a score by --scorer naswot"):
        scores.best_scored(setting, CELLS[:3], 0, lambda title, total: nullcontext())  # type: ignore[arg-type]


def test_studies_are_listed() -> None:
    assert "scatter" in done("study", "list").out


def test_an_unknown_study_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    outcome = tfnas("study", "scater", "--store", tmp_path / "s.sqlite")
    assert outcome.code == 2
    assert "scater" in outcome.err
    assert "scatter" in outcome.err


def test_a_regression_that_sees_the_truth_ranks_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.standard_normal((2, 100))
    able = learn(Learner("truth", truth[:, None], truth, 12), 20, truth, noise, seed=0)
    blind = learn(Learner("noise", noise[:, None], truth, 12), 20, truth, noise, seed=0)
    assert able.tau.low == pytest.approx(1)
    assert able.regret.high == 0
    assert able.gain.low > 0
    assert blind.tau.value < 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_two_rankings_share_through_a_third_is_gone_when_it_is_held_fixed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.standard_normal(200)
    first, second = size + 0.3 * rng.standard_normal((2, 200))
    assert kendall(first, second) > 0.4
    assert partial_kendall(first, second, [size]) < kendall(first, second) - 0.2
    assert partial_kendall(first, second, []) == pytest.approx(kendall(first, second))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_shares_of_variance_add_up_and_a_shift_of_all_networks_is_the_draws(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((5, 4))
    assert sum(variance_shares(values)) == pytest.approx(1)
    shifted = np.zeros((5, 4)) + np.arange(4)
    assert variance_shares(shifted) == pytest.approx((0, 1, 0))
