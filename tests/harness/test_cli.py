import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from harness.backends.native import unavailable
from harness.cli import main
from harness.machine import versions
from harness.store import EXPORT_COLUMNS
from spaces.nasbench201 import NASBench201

TINY = ("--image-size", "8", "--channels", "4", "--cells", "1", "--batch-size", "16")
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CELLS = [str(cell) for index, cell in enumerate(NASBench201()) if index % 1310 == 5]
PATIENCE_SECONDS = 600.0
REMARK = f"naswot: torch backend, since {reason}\n" if (reason := unavailable()) else ""
"""What `tfnas score` says first on a machine without the compiled engine."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that is all of stdout."""
        return json.loads(self.out)


def tfnas(*arguments: object, stdin: str = "") -> Outcome:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with (
        patch.object(sys, "argv", ["tfnas", *map(str, arguments)]),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    signal.signal(signal.SIGTERM, handler)
    assert isinstance(ended.value.code, int)
    return Outcome(ended.value.code, out.getvalue(), err.getvalue())


def done(*arguments: object, stdin: str = "") -> Outcome:
    """Run a command line that must succeed."""
    outcome = tfnas(*arguments, stdin=stdin)
    assert outcome.code == 0, outcome.err
    return outcome


def score(store: Path, architectures: list[str], *arguments: object) -> Outcome:
    """Score a list of cells from standard input."""
    lines = "\n".join(architectures)
    return done("score", "--architectures", "-", *TINY, "--store", store, *arguments, stdin=lines)


def exported(store: Path) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(done("export", "--store", store).out), dtype={"batch": str})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`CELLS` and the dead cell scored by both scorers; tests only read it."""
    path = tmp_path_factory.mktemp("scored") / "s.sqlite"
    score(path, [*CELLS, DEAD], "--scorer", "naswot", "--scorer", "naswot-published")
    return path


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracies of `CELLS` and the dead cell, as CSV."""
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    accuracies = np.random.default_rng(0).uniform(80, 95, len(CELLS) + 1)
    frame = pd.DataFrame({"architecture": [*CELLS, DEAD], "accuracy": accuracies, "early": accuracies / 2})
    frame.to_csv(path, index=False)
    return path


# -- the command itself


def test_version_names_what_results_depend_on() -> None:
    outcome = tfnas("--version")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.strip() == versions()


# -- score


def test_score_says_in_json_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    outcome = score(path, [*CELLS[:4], DEAD, CELLS[0]], "--json")
    document = outcome.document
    assert outcome.err == REMARK
    assert (document["scored"], document["computed"], document["cached"], document["equal"]) == (5, 5, 0, 1)
    assert document["unscored"] == {"no counted ReLU": 1}
    assert document["seconds"] > 0
    assert document["per_minute"] == pytest.approx(60 * 5 / document["seconds"])
    assert document["store"] == str(path)


def test_score_adds_up_several_scorers(tmp_path: Path) -> None:
    document = score(
        tmp_path / "s.sqlite", CELLS[:3], "--scorer", "naswot", "--scorer", "naswot-published", "--json"
    ).document
    assert document["computed"] + document["copied"] == 6
    assert document["copied"] == document["scorers"]["naswot-published"]["copied"] > 0
    assert list(document["scorers"]) == ["naswot", "naswot-published"]


def test_scorers_of_one_pass_are_scored_together(tmp_path: Path) -> None:
    names = ["snip", "jacov", "fisher", "params"]
    options = [part for name in names for part in ("--scorer", name)]
    outcome = score(tmp_path / "s.sqlite", CELLS[:2], *options, "--json")
    scorers = outcome.document["scorers"]
    assert list(scorers) == names
    # The seconds of a pass are shared out evenly.
    assert scorers["snip"]["seconds"] == scorers["fisher"]["seconds"] != scorers["jacov"]["seconds"]
    # Only plans have another backend, so nothing is said of it.
    assert outcome.err == ""
    assert set(exported(tmp_path / "s.sqlite").backend) == {"torch"}


def test_score_says_on_one_line_what_it_did(tmp_path: Path) -> None:
    outcome = score(tmp_path / "s.sqlite", [*CELLS[:4], DEAD])
    assert outcome.err == REMARK
    (line,) = outcome.out.splitlines()
    assert line.startswith("naswot: 4 scored, 1 without a score (no counted ReLU), 5 computed in ")
    assert line.endswith(f"0 cached, 0 equal to another; in {tmp_path / 's.sqlite'}")


def test_more_of_the_same_computes_only_what_is_new(tmp_path: Path) -> None:
    first = score(tmp_path / "s.sqlite", CELLS[:4], "--json").document
    again = score(tmp_path / "s.sqlite", CELLS[:4], "--json").document
    more = score(tmp_path / "s.sqlite", CELLS[:9], "--json").document
    assert (first["computed"], first["cached"]) == (4, 0)
    assert (again["computed"], again["cached"], again["per_minute"]) == (0, 4, 0)
    assert (more["computed"], more["cached"]) == (5, 4)


def test_a_larger_sample_computes_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    done("score", "--sample", 6, *TINY, "--store", path)
    before = set(exported(path)["canonical"])
    more = done("score", "--sample", 12, *TINY, "--store", path, "--json").document
    after = set(exported(path)["canonical"])
    assert more["computed"] == len(after - before)
    assert more["computed"] + more["cached"] + more["equal"] == 12


def test_a_sample_depends_on_the_seed_alone(tmp_path: Path) -> None:
    drawn = {}
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        done("score", "--sample", 5, "--seed", seed, *TINY, "--store", tmp_path / name)
        drawn[name] = exported(tmp_path / name)[["architecture", "value"]]
    assert drawn["a"].equals(drawn["b"])
    assert not drawn["a"].equals(drawn["c"])


def test_a_list_may_hold_comments_empty_lines_and_the_mark_of_windows(tmp_path: Path) -> None:
    (tmp_path / "cells.txt").write_bytes(
        b"\xef\xbb\xbf# mine\r\n\r\n" + f"{CELLS[0]}\r\n  {CELLS[1]}  \r\n".encode()
    )
    done("score", "--architectures", tmp_path / "cells.txt", *TINY, "--store", tmp_path / "s.sqlite")
    assert exported(tmp_path / "s.sqlite")["architecture"].tolist() == CELLS[:2]


def test_as_written_equal_cells_are_computed_each(tmp_path: Path) -> None:
    equal = [f"|{first}~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|" for first in ("none", "avg_pool_3x3")]
    once = score(tmp_path / "once.sqlite", equal, "--json").document
    each = score(tmp_path / "each.sqlite", equal, "--no-canonical", "--json").document
    assert (once["computed"], once["equal"]) == (1, 1)
    assert (each["computed"], each["equal"]) == (2, 0)


# -- export


def test_export_keeps_the_order_asked_for_over_several_commands(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    score(path, CELLS[3:6], "--processes", 1, "--chunk", 1)
    score(path, CELLS[:2], "--scorer", "naswot-published")
    score(path, CELLS[:7])
    frame = exported(path)
    assert tuple(frame.columns) == EXPORT_COLUMNS
    assert list(zip(frame["scorer"], frame["architecture"], strict=True)) == [
        *(("naswot", cell) for cell in CELLS[3:6]),
        *(("naswot-published", cell) for cell in CELLS[:2]),
        *(("naswot", cell) for cell in [*CELLS[:3], CELLS[6]]),
    ]


def test_export_names_the_reason_where_there_is_no_value(store: Path) -> None:
    frame = exported(store)
    dead = frame[(frame["architecture"] == DEAD) & (frame["scorer"] == "naswot")]
    assert dead["value"].isna().all()
    assert dead["reason"].tolist() == ["no counted ReLU"]
    scored = frame[frame["value"].notna()]
    assert scored["reason"].isna().all()
    assert len(scored) >= 2 * len(CELLS)


def test_csv_and_parquet_hold_the_same_to_the_bit(store: Path, tmp_path: Path) -> None:
    done("export", "--store", store, "--out", tmp_path / "e.csv")
    outcome = done("export", "--store", store, "--format", "parquet", "--out", tmp_path / "e.parquet")
    assert outcome.out == ""
    assert "26 rows" in outcome.err
    parquet = pd.read_parquet(tmp_path / "e.parquet")
    with (tmp_path / "e.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["architecture"] for row in rows] == parquet["architecture"].tolist()
    assert [float(row["value"] or "nan") for row in rows] == pytest.approx(parquet["value"].tolist(), 0, 0, True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e.csv", "e.parquet"]


# -- correlate and report


def test_correlate_gives_each_ranking_its_figures_and_intervals(store: Path, truth: Path) -> None:
    outcome = done("correlate", "--store", store, "--truth", truth, "--column", "accuracy", "--json")
    assert outcome.err == ""
    rows = {row["scorer"]: row for row in outcome.document}
    assert list(rows) == ["naswot", "naswot-published", "params", "flops"]
    for row in rows.values():
        assert row["truth"] == "accuracy"
        for figure in ("kendall", "spearman", "pearson"):
            assert -1 <= row[f"{figure}_low"] <= row[figure] <= row[f"{figure}_high"] <= 1
    assert (rows["naswot"]["n"], rows["params"]["n"]) == (len(CELLS), len(CELLS) + 1)
    assert rows["naswot"]["reasons"] == {"no counted ReLU": 1}
    assert rows["naswot"]["dataset"] == "digits"


def test_correlate_ranks_the_unscored_last_if_asked(store: Path, truth: Path) -> None:
    options = ("--store", store, "--truth", truth, "--column", "accuracy", "--scorer", "naswot", "--json")
    row, *_ = done("correlate", *options, "--unscored", "last").document
    assert (row["scorer"], row["n"]) == ("naswot", len(CELLS) + 1)


def test_a_baseline_is_ranked_beside_the_scores(store: Path, truth: Path) -> None:
    options = ("--store", store, "--truth", truth, "--column", "accuracy", "--baseline", "early", "--json")
    *_, row = done("correlate", *options).document
    assert (row["scorer"], row["kendall"]) == ("early", pytest.approx(1))


def test_architectures_that_the_truth_lacks_are_counted_and_dropped_only_if_asked(
    store: Path, truth: Path, tmp_path: Path
) -> None:
    pd.read_csv(truth).head(9).to_csv(tmp_path / "short.csv", index=False)
    options = ("--store", store, "--truth", tmp_path / "short.csv", "--column", "accuracy")
    refused = tfnas("correlate", *options)
    assert (refused.code, refused.out) == (2, "")
    assert "4 of 13 scored architectures are missing from the truth accuracy" in refused.err
    rows = done("correlate", *options, "--drop-missing", "--json").document
    assert {row["n"] for row in rows} == {9}


def test_correlate_prints_a_table(store: Path, truth: Path) -> None:
    out = done("correlate", "--store", store, "--truth", truth, "--column", "accuracy").out
    for word in ("naswot-published", "params", "Kendall", "accuracy"):
        assert word in out


def test_report_writes_a_page_and_its_pictures(store: Path, truth: Path, tmp_path: Path) -> None:
    options = ("--store", store, "--truth", truth, "--column", "accuracy", "--out", tmp_path / "report")
    page = tmp_path / "report" / "index.html"
    assert done("report", *options).out == f"{page}\n"
    text = page.read_text()
    assert "no counted ReLU" in text
    assert "tfnas report --store" in text
    assert len(list(page.parent.glob("scatter-*.png"))) == 4
    assert done("report", *options, "--json").document == {"page": str(page)}


def test_a_report_on_too_few_architectures_says_so_without_a_made_up_figure(
    store: Path, truth: Path, tmp_path: Path
) -> None:
    pd.read_csv(truth).head(2).to_csv(tmp_path / "two.csv", index=False)
    options = ("--truth", tmp_path / "two.csv", "--column", "accuracy", "--drop-missing")
    done("report", "--store", store, *options, "--out", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "tau n/a against accuracy" in page
    assert "[nan" not in page


# -- train and bench

TRAINING = ("--image-size", "8", "--channels", "4", "--cells", "1", "--epochs", "1", "--processes", "1")


def test_trainings_are_the_truth_of_the_scores_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    score(path, CELLS[:5])
    train = ("train", "--architectures", "-", *TRAINING, "--train-images", 64, "--store", path)
    first = done(*train, "--json", stdin="\n".join(CELLS[:4])).document
    again = done(*train, "--json", stdin="\n".join(CELLS[:4])).document
    assert (first["asked"], first["trained"]) == (4, 4)
    assert (again["trained"], again["cached"]) == (0, 4)
    assert done(*train, stdin=CELLS[0]).out.startswith("1 asked for: 0 trained in ")
    for column, name in [("test_accuracy", "test_digits_1ep"), ("validation_accuracy", "val_digits_1ep")]:
        rows = done("correlate", "--column", column, "--store", path, "--json").document
        assert rows[0]["truth"] == name
        assert {row["n"] for row in rows} == {4}
    assert [file.name for file in tmp_path.iterdir()] == ["s.sqlite"]


def test_bench_goes_all_the_way_to_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report" / "index.html"
    bench = ("bench", "--sample", 6, *TRAINING, "--batch-size", 16, "--store", tmp_path / "s.sqlite")
    first = done(*bench, "--out", tmp_path / "report")
    assert first.out.endswith(f"report: {page}\n")
    assert "naswot-published" in first.out
    assert "training" in page.read_text()
    page.unlink()
    document = done(*bench, "--out", tmp_path / "report", "--json").document
    assert document["page"] == str(page)
    assert page.is_file()
    assert [row["scorer"] for row in document["agreements"]] == [
        "naswot",
        "naswot-published",
        "params",
        "flops",
    ]
    assert all(summary["computed"] == 0 for summary in document["score"].values())


def test_bench_takes_a_table_instead_of_training(truth: Path, tmp_path: Path) -> None:
    document = done(
        *("bench", "--architectures", "-", *TINY, "--scorer", "naswot", "--processes", 1),
        *("--truth", truth, "--column", "accuracy", "--baseline", "early"),
        *("--store", tmp_path / "s.sqlite", "--out", tmp_path / "report", "--json"),
        stdin="\n".join(CELLS[:6]),
    ).document
    assert [row["scorer"] for row in document["agreements"]] == ["naswot", "params", "flops", "early"]


# -- lists and import


@pytest.mark.parametrize(
    ("command", "name"),
    [("spaces", "nasbench201"), ("scorers", "naswot-published"), ("datasets", "digits")],
)
def test_what_there_is_is_listed_for_people_and_machines(command: str, name: str) -> None:
    assert any(line.startswith(f"{name} ") for line in done(command).out.splitlines())
    rows = done(command, "--json").document
    assert name in [row["name"] for row in rows]
    assert all(row["description"] for row in rows)


def test_an_imported_table_can_be_correlated_with(store: Path, truth: Path, tmp_path: Path) -> None:
    imported = tmp_path / "truth.parquet"
    document = done("import", truth, "--out", imported, "--json").document
    assert (document["architectures"], document["columns"]) == (len(CELLS) + 1, ["accuracy", "early"])
    assert done("import", truth, "--out", imported).out.startswith(f"{imported}: 13 architectures from")
    assert done("correlate", "--store", store, "--truth", imported, "--column", "early", "--json").document


# -- networks that are not cells


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user, from where Python imports."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_networks_of_ones_own_go_the_whole_way(workplace: Path) -> None:
    (workplace / "my_networks.py").write_text(
        "from torch import nn\n"
        "def network(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
        "def networks():\n"
        "    widths = {'narrow': 16, 'medium': 32, 'wide': 64}\n"
        "    return {name: (lambda width=width: network(width)) for name, width in widths.items()}\n"
    )
    space = ("--space", "python:my_networks:networks")
    done("score", *space, "--all", "--image-size", 8, "--batch-size", 16)
    frame = exported(Path("tfnas.sqlite"))
    assert frame["architecture"].tolist() == ["narrow", "medium", "wide"]
    assert frame["value"].is_monotonic_increasing
    done("train", *space, "--all", "--image-size", 8, "--epochs", 1, "--train-images", 64, "--processes", 1)
    rows = done("correlate", *space, "--json").document
    assert {(row["scorer"], row["n"]) for row in rows} == {("naswot", 3), ("params", 3), ("flops", 3)}
    done("report", *space)
    assert (workplace / "tfnas-report" / "index.html").is_file()


def test_torchvision_networks_are_scored_by_name_or_say_why_not(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", train_images=images, train_labels=np.arange(24) % 2)
    done(
        *("score", "--space", "torchvision", "--dataset", f"npz:{tmp_path / 'mine.npz'}"),
        *("--image-size", 32, "--batch-size", 8, "--architectures", "-", "--store", tmp_path / "s.sqlite"),
        stdin="squeezenet1_0\nalexnet\nmobilenet_v3_small\n",
    )
    frame = exported(tmp_path / "s.sqlite").set_index("architecture")
    assert frame["value"].notna().to_dict() == {
        "squeezenet1_0": True,
        "alexnet": False,
        "mobilenet_v3_small": True,
    }
    assert "failed on images of shape (8, 3, 32, 32)" in frame["reason"]["alexnet"]


# -- processes, signals and kills

# A second or more of work after the first score, so that a signal meets it on a busy machine too.
SMALL = ("--image-size", "16", "--channels", "16", "--cells", "3", "--batch-size", "128")
LONG = ("--sample", "200", "--chunk", "1", *SMALL)
# -P: the package as installed, as in this process, not the one in the working directory.
PROGRAM = (sys.executable, "-P", "-c", "from harness.cli import main; main()")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("uninterrupted") / "s.sqlite"
    done("score", *LONG, "--chunk", 50, "--processes", 1, "--store", path)
    return exported(path)


def scores_in(path: Path) -> int:
    """Scores that a reader finds while another process writes."""
    if not path.exists():
        return 0
    try:
        # Not opened for reading alone: after a kill the first to open has to put the file in order.
        with closing(sqlite3.connect(path)) as reader:
            return int(reader.execute("SELECT count(*) FROM scores").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def alive_in_group(group: int) -> list[int]:
    """Processes of a group that are still running; those that only wait to be reaped are not."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == group and state not in "ZX":
            found.append(int(status.parent.name))
    return found


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """`tfnas score` in a process group of its own, the first scores just written, many left to do.

    The parameter is the number of processes that score.
    """
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to see which processes are left")
    command = [*PROGRAM, "score", *LONG, "--processes", str(request.param)]
    command += ["--store", str(tmp_path / "s.sqlite"), "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: scores_in(tmp_path / "s.sqlite") >= 3 or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        assert len(alive_in_group(process.pid)) >= request.param
        yield process
    finally:
        for left in alive_in_group(process.pid):
            os.kill(left, signal.SIGKILL)
        process.communicate()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_the_same_command_continues(path: Path, expected: pd.DataFrame) -> None:
    kept = scores_in(path)
    document = done("score", *LONG, "--chunk", 50, "--processes", 1, "--store", path, "--json").document
    assert kept >= 3
    assert document["cached"] == kept
    assert document["computed"] == expected["canonical"].nunique() - kept
    columns = ["architecture", "canonical", "value", "reason"]
    assert exported(path)[columns].equals(expected[columns])


@pytest.mark.parametrize("running", [2], indirect=True)
def test_kill_9_leaves_whole_chunks_and_no_process(
    running: subprocess.Popen[str], uninterrupted: pd.DataFrame, tmp_path: Path
) -> None:
    running.kill()
    running.wait()
    wait_until(lambda: not alive_in_group(running.pid))
    assert_the_same_command_continues(tmp_path / "s.sqlite", uninterrupted)


@pytest.mark.parametrize(
    ("running", "name", "reaches"),
    [
        (2, signal.SIGINT, "the whole group, as from a terminal"),
        (1, signal.SIGTERM, "the process alone"),
    ],
    indirect=["running"],
)
def test_a_stopped_command_keeps_what_is_done_and_says_so(
    running: subprocess.Popen[str],
    uninterrupted: pd.DataFrame,
    tmp_path: Path,
    name: signal.Signals,
    reaches: str,
) -> None:
    if reaches == "the process alone":
        running.send_signal(name)
    else:
        os.killpg(running.pid, name)
    out, err = running.communicate()
    assert running.returncode == 3
    assert err == REMARK + "tfnas: stopped; what was finished is kept, the same command continues\n"
    document = json.loads(out)
    assert document["scorers"]["naswot"]["interrupted"]
    assert document["computed"] == scores_in(tmp_path / "s.sqlite")
    # multiprocessing's resource tracker ends by itself, just after its parent.
    wait_until(lambda: not alive_in_group(running.pid))
    assert_the_same_command_continues(tmp_path / "s.sqlite", uninterrupted)


@pytest.mark.parametrize("running", [1], indirect=True)
def test_two_commands_fill_one_store_at_once(
    running: subprocess.Popen[str], uninterrupted: pd.DataFrame, tmp_path: Path
) -> None:
    here = done("score", *LONG, "--processes", 1, "--store", tmp_path / "s.sqlite", "--json").document
    out, err = running.communicate()
    assert running.returncode == 0, err
    documents = (here, json.loads(out))
    for document in documents:
        assert document["scored"] + sum(document["unscored"].values()) == 200
    assert sum(document["computed"] for document in documents) >= uninterrupted["canonical"].nunique()
    columns = ["architecture", "canonical", "value", "reason"]
    assert exported(tmp_path / "s.sqlite")[columns].equals(uninterrupted[columns])


def test_the_process_ends_with_the_code_and_one_line_for_bad_input(tmp_path: Path) -> None:
    command = [*PROGRAM, "score", "--space", "nowhere", "--sample", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("tfnas: unknown space 'nowhere'; allowed: darts, ")
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds a full disk")
@pytest.mark.parametrize("command", ["spaces", "export"])
def test_output_that_finds_the_disk_full_is_one_line(store: Path, command: str) -> None:
    arguments = [*PROGRAM, command, *(("--store", str(store)) if command == "export" else ("--json",))]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "tfnas: [Errno 28] No space left on device\n"
