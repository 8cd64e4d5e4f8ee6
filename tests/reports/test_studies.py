"""Studies by their command: small runs on the embedded images, against a table made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_cli import done, tfnas

from spaces.nasbench201 import NASBench201

SMALL = ("--image-size", "8", "--channels", "4", "--cells", "1", "--batch-size", "16", "--sample", "24")


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracies that grow with the number of convolutions, so that a score has something to rank."""
    space = NASBench201()
    noise = np.random.default_rng(0).standard_normal(space.size)
    rows = [
        {"architecture": str(cell), "accuracy": 50 + 5 * str(cell).count("conv") + noise[index]}
        for index, cell in enumerate(space)
    ]
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def study(name: str, folder: Path, truth: Path, *arguments: object) -> Any:
    """What `tfnas study --json` prints."""
    where = ("--store", folder / "s.sqlite", "--out", folder / "out", "--truth", truth, "--column", "accuracy")
    return done("study", name, *SMALL, *where, *arguments, "--json").document


@pytest.mark.parametrize("name", ["scatter", "kernels", "robustness"])
def test_a_study_saves_its_table_its_pictures_and_a_page(name: str, tmp_path: Path, truth: Path) -> None:
    runs = ("--runs", "2") if name == "robustness" else ()
    study(name, tmp_path, truth, *runs)
    out = tmp_path / "out"
    assert len(pd.read_parquet(out / f"{name}.parquet"))
    assert list(out.glob(f"{name}*.png"))
    page = (out / "index.html").read_text()
    assert "tfnas study" in page
    assert 'src="http' not in page


def test_the_same_study_again_gives_the_same_table(tmp_path: Path, truth: Path) -> None:
    study("scatter", tmp_path, truth)
    first = pd.read_parquet(tmp_path / "out" / "scatter.parquet")
    study("scatter", tmp_path, truth)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "scatter.parquet"), first)


def test_studies_are_listed() -> None:
    assert "scatter" in done("study", "list").out


def test_an_unknown_study_is_refused_with_those_that_exist(tmp_path: Path, truth: Path) -> None:
    outcome = tfnas("study", "scater", "--truth", truth, "--store", tmp_path / "s.sqlite")
    assert outcome.code == 2
    assert "scater" in outcome.err
    assert "scatter" in outcome.err
