import math
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Epoch, Run, ScoreContext, ScoreRecord, TrainingContext, TrainingRecord
from harness.store import APPLICATION_ID, EXPORT_COLUMNS, FORMAT, Store
from spaces.errors import InputError

CONTEXT = ScoreContext(
    space="nasbench201",
    scorer="naswot",
    settings="{}",
    seed=0,
    dataset="digits",
    batch="00ff",
    batch_size=16,
    device="cpu",
    backend="torch",
)
TRAINING = TrainingContext(space="nasbench201", recipe="{}", settings="{}", seed=0, dataset="digits", data="00ff")
NOBODY = 65534


def record(canonical: str, value: float = 1.0) -> ScoreRecord:
    return ScoreRecord(canonical, value, None, 0.5)


def message_of(path: Path, *, create: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        Store(path, create=create)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


# -- what goes in comes out


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.tuples(FINITE, FINITE)))
def test_scores_come_back_to_the_bit(values: dict[str, tuple[float, float]]) -> None:
    records = {text: ScoreRecord(text, value, None, seconds) for text, (value, seconds) in values.items()}
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        store.add_scores(number, list(records.values()))
        assert store.scores(number) == records


def test_a_reason_comes_back_without_a_value(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        store.add_scores(number, [ScoreRecord("a", None, "singular kernel", 0.1)])
    with Store(tmp_path / "s.sqlite", create=False) as store:
        assert store.score_contexts() == {number: CONTEXT}
        assert store.scores(number) == {"a": ScoreRecord("a", None, "singular kernel", 0.1)}


def test_a_training_comes_back_with_its_curve(tmp_path: Path) -> None:
    curve = (
        Epoch(1, 0.1, 2.25, 11.5, 2.5, 12.5, 1.5),
        Epoch(2, 0.0, 1.125, 50.0, 1.25, 49.5, 3.0),
    )
    trained = TrainingRecord("a", 49.5, 48.0, 3.5, curve)
    with Store(tmp_path / "s.sqlite") as store:
        number = store.training_context(TRAINING)
        store.add_training(number, trained)
        store.add_training(number, replace(trained, canonical="b", curve=()))
    with Store(tmp_path / "s.sqlite", create=False) as store:
        assert store.training_contexts() == {number: TRAINING}
        assert store.trainings(number) == {"a": trained, "b": replace(trained, canonical="b", curve=())}


def test_a_loss_that_was_not_a_number_comes_back_as_none_was(tmp_path: Path) -> None:
    diverged = Epoch(1, 0.1, math.nan, 10.0, math.nan, 10.0, 1.0)
    with Store(tmp_path / "s.sqlite") as store:
        number = store.training_context(TRAINING)
        store.add_training(number, TrainingRecord("a", 10.0, 10.0, 1.0, (diverged,)))
        (epoch,) = store.trainings(number)["a"].curve
    assert math.isnan(epoch.train_loss)
    assert math.isnan(epoch.validation_loss)
    assert epoch.train_accuracy == 10.0


def test_runs_come_back_in_order(tmp_path: Path) -> None:
    scored = [Run("tfnas score --sample 2", 2, 1.5), Run("tfnas score --sample 9", 7, 2.5)]
    trained = [Run("tfnas train --sample 2", 2, 60.0), Run("tfnas train --sample 9", 7, 210.0)]
    with Store(tmp_path / "s.sqlite") as store:
        scores, trainings = store.score_context(CONTEXT), store.training_context(TRAINING)
        for score_run, training_run in zip(scored, trained, strict=True):
            store.add_score_run(scores, score_run)
            store.add_training_run(trainings, training_run)
        assert store.score_runs(scores) == scored
        assert store.training_runs(trainings) == trained


# -- keys


@pytest.mark.parametrize("field", ["space", "scorer", "settings", "batch", "device", "backend"])
def test_every_part_of_the_key_makes_another_context(tmp_path: Path, field: str) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        assert store.score_context(replace(CONTEXT, **{field: "other"})) != number
        assert store.score_context(replace(CONTEXT, seed=1)) != number
        assert store.score_context(CONTEXT) == number


def test_the_name_of_the_data_set_is_no_part_of_the_key(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        assert store.score_context(replace(CONTEXT, dataset="npz:the same images.npz")) == number
        trained = store.training_context(TRAINING)
        assert store.training_context(replace(TRAINING, dataset="folder:the same images")) == trained


def test_the_first_score_of_a_key_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        store.add_scores(number, [record("a", 1.0)])
        store.add_scores(number, [record("a", 2.0), record("b", 3.0)])
        assert {text: found.value for text, found in store.scores(number).items()} == {"a": 1.0, "b": 3.0}


def test_export_keeps_the_order_asked_for_over_contexts_and_commands(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first, second = store.score_context(CONTEXT), store.score_context(replace(CONTEXT, seed=7))
        store.ask(first, [("z", "z"), ("b", "a")])
        store.ask(second, [("y", "y"), ("z", "z")])
        store.add_scores(second, [record("z", 4.0), record("y", 3.0)])
        store.add_scores(first, [record("a", 2.0), record("z", 1.0)])
    with Store(tmp_path / "s.sqlite") as store:
        store.ask(first, [("c", "c"), ("b", "a"), ("a", "a")])
        store.add_scores(first, [record("c", 5.0)])
        rows = [dict(zip(EXPORT_COLUMNS, row, strict=True)) for row in store.export()]
        asked = [architecture for architecture, _ in store.asked_scores(first)]
    assert [(row["architecture"], row["canonical"], row["seed"], row["value"]) for row in rows] == [
        ("z", "z", 0, 1.0),
        ("b", "a", 0, 2.0),
        ("y", "y", 7, 3.0),
        ("z", "z", 7, 4.0),
        ("c", "c", 0, 5.0),
        ("a", "a", 0, 2.0),
    ]
    assert asked == ["z", "b", "c", "a"]


def test_what_was_asked_for_but_not_scored_yet_is_not_exported(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.ask(store.score_context(CONTEXT), [("a", "a")])
        assert list(store.export()) == []


# -- whole chunks, many writers


def test_a_chunk_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        neither_value_nor_reason = ScoreRecord("b", None, None, 0.5)
        with pytest.raises(InputError, match=r"s\.sqlite: CHECK constraint failed"):
            store.add_scores(number, [record("a"), neither_value_nor_reason])
        assert store.scores(number) == {}
        store.add_scores(number, [record("a")])
        assert list(store.scores(number)) == ["a"]


def test_many_writers_may_make_and_fill_one_store_at_once(tmp_path: Path) -> None:
    writers = 8
    start = threading.Barrier(writers)
    failed: list[Exception] = []

    def write(writer: int) -> None:
        start.wait()
        try:
            with Store(tmp_path / "s.sqlite") as store:
                number = store.score_context(CONTEXT)
                for chunk in range(4):
                    store.add_scores(number, [record(f"{writer}-{chunk}"), record(f"shared-{chunk}")])
        except InputError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Store(tmp_path / "s.sqlite", create=False) as store:
        (number,) = store.score_contexts()
        assert len(store.scores(number)) == writers * 4 + 4


# -- files that are no store


def test_reading_a_store_that_is_not_there_says_so_and_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    assert message_of(path, create=False) == f"--store {path} does not exist; `tfnas score` makes it"
    assert not path.exists()


def test_a_store_opened_to_read_cannot_be_changed(tmp_path: Path) -> None:
    Store(tmp_path / "s.sqlite").close()
    with Store(tmp_path / "s.sqlite", create=False) as store, pytest.raises(InputError, match="read-only"):
        store.score_context(CONTEXT)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"folder {tmp_path / 'missing'} does not exist" in message_of(tmp_path / "missing" / "s.sqlite")


def test_a_folder_in_the_place_of_the_store_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in message_of(tmp_path)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes.\n" * 100)
    before = path.read_bytes()
    assert message_of(path, create=create).endswith("the file is not a SQLite database")
    assert path.read_bytes() == before


@pytest.mark.parametrize("create", [True, False])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    before = path.read_bytes()
    assert "another program" in message_of(path, create=create)
    assert path.read_bytes() == before


@pytest.mark.parametrize("create", [True, False])
def test_a_store_of_another_version_is_refused_with_both_versions(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {FORMAT + 1}")
    other.close()
    message = message_of(path, create=create)
    assert f"has format {FORMAT + 1}" in message
    assert f"reads format {FORMAT}" in message


def test_a_store_says_which_program_it_belongs_to(tmp_path: Path) -> None:
    Store(tmp_path / "s.sqlite").close()
    reader = sqlite3.connect(tmp_path / "s.sqlite")
    assert reader.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert reader.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    reader.close()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_store_cut_short_is_called_damaged(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged" in message_of(path)


def test_a_name_with_signs_that_mean_something_in_addresses_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "50% für mich? #1.sqlite"
    Store(path).close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# -- places that cannot be written


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everything, so root gives up its rights for a while; other users have none to give up."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_report_reads_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(CONTEXT)
        store.add_scores(number, [record("a")])
    with closing(sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")  # so that an open transaction reaches the file
        writer.execute("BEGIN")
        writer.execute("UPDATE scores SET value = 2")
        writer.executemany(
            "INSERT INTO asked (context, architecture, canonical) VALUES (?, ?, ?)",
            [(number, str(index) * 100, str(index)) for index in range(2000)],
        )
        for name in ("s.sqlite", "s.sqlite-journal"):
            shutil.copy(tmp_path / name, tmp_path / "left")
    with Store(tmp_path / "left" / "s.sqlite", create=False) as store:
        assert store.scores(number) == {"a": record("a")}


def test_a_read_only_store_can_be_read_and_says_that_it_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sqlite"
        with Store(path) as store:
            number = store.score_context(CONTEXT)
            store.add_scores(number, [record("a")])
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        try:
            with as_nobody():
                with Store(path, create=False) as store:
                    assert list(store.scores(number)) == ["a"]
                with Store(path) as store, pytest.raises(InputError, match=r"s\.sqlite: the file is read-only"):
                    store.score_context(CONTEXT)
        finally:
            Path(folder).chmod(0o755)


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        try:
            with as_nobody():
                assert "its folder cannot be written" in message_of(Path(folder) / "s.sqlite")
        finally:
            Path(folder).chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_keeps_the_chunks_before(small_disk: Path) -> None:
    written = 0
    with Store(small_disk / "s.sqlite") as store:
        number = store.score_context(CONTEXT)

        def fill() -> None:
            nonlocal written
            while True:
                store.add_scores(number, [record(f"{written}-{cell}" + "x" * 200) for cell in range(8)])
                written += 1

        with pytest.raises(InputError, match="the disk is full; what was written before is kept"):
            fill()
        assert written > 0
        assert len(store.scores(number)) == 8 * written
    with Store(small_disk / "s.sqlite", create=False) as store:
        assert len(store.scores(number)) == 8 * written


def test_a_store_that_finds_the_disk_full_at_once_is_one_line(small_disk: Path) -> None:
    (small_disk / "fill").write_bytes(bytes(248 << 10))
    assert "the disk is full" in message_of(small_disk / "s.sqlite")
