"""The results store: one SQLite file with scores, trainings and where they came from.

A context is everything beside the architecture that a result depends on. A result belongs to a context and a
representative; what the user asked for, in order, points at it. Results are written in one transaction a
chunk, so a killed process loses at most the chunk in flight.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.machine import versions
from harness.records import Epoch, Run, ScoreContext, ScoreRecord, TrainingContext, TrainingRecord
from spaces.errors import InputError

APPLICATION_ID = 0x74666E61
FORMAT = 1
LOCK_TIMEOUT_SECONDS = 60.0
"""Several commands may share a store: each waits this long for another's transaction."""

SCHEMA = """
CREATE TABLE score_contexts (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL, scorer TEXT NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
    dataset TEXT NOT NULL, batch TEXT NOT NULL, batch_size INTEGER NOT NULL,
    device TEXT NOT NULL, backend TEXT NOT NULL,
    UNIQUE (space, scorer, settings, seed, batch, device, backend)
);
CREATE TABLE scores (
    context INTEGER NOT NULL REFERENCES score_contexts(id),
    canonical TEXT NOT NULL, value REAL, reason TEXT, seconds REAL NOT NULL, versions TEXT NOT NULL,
    PRIMARY KEY (context, canonical),
    CHECK ((value IS NULL) != (reason IS NULL))
) WITHOUT ROWID;
CREATE TABLE score_runs (
    id INTEGER PRIMARY KEY,
    context INTEGER NOT NULL REFERENCES score_contexts(id),
    command TEXT NOT NULL, computed INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE asked (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    context INTEGER NOT NULL REFERENCES score_contexts(id),
    architecture TEXT NOT NULL, canonical TEXT NOT NULL,
    UNIQUE (context, architecture)
);
CREATE TABLE training_contexts (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL, recipe TEXT NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
    dataset TEXT NOT NULL, data TEXT NOT NULL,
    UNIQUE (space, recipe, settings, seed, data)
);
CREATE TABLE trainings (
    context INTEGER NOT NULL REFERENCES training_contexts(id),
    canonical TEXT NOT NULL, validation_accuracy REAL NOT NULL, test_accuracy REAL NOT NULL,
    seconds REAL NOT NULL, versions TEXT NOT NULL,
    PRIMARY KEY (context, canonical)
) WITHOUT ROWID;
CREATE TABLE training_runs (
    id INTEGER PRIMARY KEY,
    context INTEGER NOT NULL REFERENCES training_contexts(id),
    command TEXT NOT NULL, computed INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE curves (
    context INTEGER NOT NULL REFERENCES training_contexts(id),
    canonical TEXT NOT NULL, epoch INTEGER NOT NULL, learning_rate REAL NOT NULL,
    train_loss REAL, train_accuracy REAL NOT NULL, validation_loss REAL, validation_accuracy REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (context, canonical, epoch)
) WITHOUT ROWID;
"""

EXPORT_COLUMNS = (
    "space",
    "architecture",
    "canonical",
    "scorer",
    "dataset",
    "batch",
    "seed",
    "value",
    "reason",
    "seconds",
    "device",
    "backend",
)


class Store:
    """An open store. Every failure of the file is an `InputError` of one line that names it.

    `create=False` opens an existing store for reading only, so that a report never makes an empty file.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise InputError(f"--store {path} does not exist; `tfnas score` makes it")
        if create and not path.parent.is_dir():
            raise InputError(f"--store {path}: folder {path.parent} does not exist")
        with self._explained():
            # Readers may write the file too, to undo what a killed writer left half-done; nothing else.
            uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
            self._connection = sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)
            try:
                if not create:
                    self._connection.execute("PRAGMA query_only = ON")
                self._check_or_make_schema(create)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # -- scores

    def score_context(self, context: ScoreContext) -> int:
        """Number of this context, made if new."""
        return self.context("score_contexts", context, "dataset", "batch_size")

    def ask(self, context: int, architectures: Iterable[tuple[str, str]]) -> None:
        """Record that (architecture, canonical) pairs were asked for, in order; known ones keep their place."""
        self.insert(
            "INSERT INTO asked (context, architecture, canonical) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(context, architecture, canonical) for architecture, canonical in architectures],
        )

    def scores(self, context: int) -> dict[str, ScoreRecord]:
        """Every score of a context, by canonical text."""
        rows = self.rows("SELECT canonical, value, reason, seconds FROM scores WHERE context = ?", context)
        return {row[0]: ScoreRecord(*row) for row in rows}

    def add_scores(self, context: int, records: Sequence[ScoreRecord]) -> None:
        """Write a chunk in one transaction; a key that is there already stays as it is."""
        self.insert(
            "INSERT INTO scores (context, canonical, value, reason, seconds, versions) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(context, *astuple(record), versions()) for record in records],
        )

    def copy_scores(self, source: int, target: int, canonicals: Iterable[str]) -> None:
        """Copy these scores of one context to another, versions and seconds included, in one transaction."""
        self.insert(
            "INSERT INTO scores SELECT ?, canonical, value, reason, seconds, versions FROM scores "
            "WHERE context = ? AND canonical = ? ON CONFLICT DO NOTHING",
            [(target, source, canonical) for canonical in canonicals],
        )

    def shared_scores(self, context: int, other: int) -> int:
        """Scores that two contexts have in common, copied from one to the other: as equal seconds show."""
        query = (
            "SELECT count(*) FROM scores AS mine JOIN scores AS theirs USING (canonical, seconds, versions) "
            "WHERE mine.context = ? AND theirs.context = ?"
        )
        return int(self.rows(query, context, other)[0][0])

    def score_contexts(self) -> dict[int, ScoreContext]:
        """All contexts by number, in the order they were made."""
        columns = ", ".join(field.name for field in fields(ScoreContext))
        return {row[0]: ScoreContext(*row[1:]) for row in self.rows(f"SELECT id, {columns} FROM score_contexts")}

    def add_score_run(self, context: int, run: Run) -> None:
        """Record what a command computed and the wall clock that it took."""
        self.insert(
            "INSERT INTO score_runs (context, command, computed, seconds) VALUES (?, ?, ?, ?)",
            [(context, *astuple(run))],
        )

    def score_runs(self, context: int) -> list[Run]:
        """Runs that computed scores of a context, in order."""
        rows = self.rows(
            "SELECT command, computed, seconds FROM score_runs WHERE context = ? ORDER BY id", context
        )
        return [Run(*row) for row in rows]

    def asked_scores(self, context: int) -> list[tuple[str, ScoreRecord]]:
        """(architecture as asked, score of its representative), in the order asked for."""
        rows = self.rows(
            "SELECT architecture, canonical, value, reason, seconds FROM asked JOIN scores "
            "USING (context, canonical) WHERE context = ? ORDER BY position",
            context,
        )
        return [(row[0], ScoreRecord(*row[1:])) for row in rows]

    def export(self) -> Iterator[tuple[Any, ...]]:
        """Rows of `EXPORT_COLUMNS` for every score that was asked for, in that order."""
        yield from self.rows(
            f"SELECT {', '.join(EXPORT_COLUMNS)} FROM asked JOIN scores USING (context, canonical) "
            "JOIN score_contexts ON score_contexts.id = context ORDER BY position"
        )

    # -- trainings

    def training_context(self, context: TrainingContext) -> int:
        """Number of this context, made if new."""
        return self.context("training_contexts", context, "dataset")

    def training_contexts(self) -> dict[int, TrainingContext]:
        """All contexts by number, in the order they were made."""
        columns = ", ".join(field.name for field in fields(TrainingContext))
        rows = self.rows(f"SELECT id, {columns} FROM training_contexts")
        return {row[0]: TrainingContext(*row[1:]) for row in rows}

    def trainings(self, context: int) -> dict[str, TrainingRecord]:
        """Every finished training of a context with its curve, by canonical text."""
        curves: dict[str, list[Epoch]] = {}
        columns = ", ".join(field.name for field in fields(Epoch))
        for canonical, epoch, *values in self.rows(
            f"SELECT canonical, {columns} FROM curves WHERE context = ? ORDER BY canonical, epoch", context
        ):
            curves.setdefault(canonical, []).append(
                Epoch(epoch, *(math.nan if value is None else value for value in values))
            )
        rows = self.rows(
            "SELECT canonical, validation_accuracy, test_accuracy, seconds FROM trainings WHERE context = ?",
            context,
        )
        return {
            canonical: TrainingRecord(canonical, validation, test, seconds, tuple(curves.get(canonical, ())))
            for canonical, validation, test, seconds in rows
        }

    def add_training_run(self, context: int, run: Run) -> None:
        """Record what a command trained and the wall clock that it took."""
        self.insert(
            "INSERT INTO training_runs (context, command, computed, seconds) VALUES (?, ?, ?, ?)",
            [(context, *astuple(run))],
        )

    def training_runs(self, context: int) -> list[Run]:
        """Runs that trained in a context, in order."""
        rows = self.rows(
            "SELECT command, computed, seconds FROM training_runs WHERE context = ? ORDER BY id", context
        )
        return [Run(*row) for row in rows]

    def add_training(self, context: int, record: TrainingRecord) -> None:
        """Write a finished training and its curve in one transaction."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO trainings VALUES (?, ?, ?, ?, ?, ?)",
                (
                    context,
                    record.canonical,
                    record.validation_accuracy,
                    record.test_accuracy,
                    record.seconds,
                    versions(),
                ),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(context, record.canonical, *astuple(epoch)) for epoch in record.curve],
            )

    # -- tables of other modules

    def add_tables(self, schema: str) -> None:
        """Make the tables of a module's own results, written with IF NOT EXISTS, where they are absent."""
        with self.transaction() as connection:
            for statement in schema.split(";"):
                connection.execute(statement)

    def has_table(self, name: str) -> bool:
        """Whether results of this kind were ever written."""
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", name))

    def context(self, table: str, context: Any, *descriptive: str) -> int:
        """Number of a context (a dataclass, a field a column) in its table, made if new.

        `descriptive` fields are for people: contexts that differ in nothing else are the same.
        """
        columns = [field.name for field in fields(context)]
        key = [name for name in columns if name not in descriptive]
        where = " AND ".join(f"{name} = ?" for name in key)
        with self.transaction() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                astuple(context),
            )
            found = connection.execute(
                f"SELECT id FROM {table} WHERE {where}", [getattr(context, name) for name in key]
            ).fetchone()
        return int(found[0])

    def insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for every row, in one transaction."""
        with self.transaction() as connection:
            connection.executemany(statement, rows)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """The connection within a transaction, which is undone if the block raises."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # -- the file

    def _check_or_make_schema(self, create: bool) -> None:
        # In one transaction: another command may be making the same file.
        with self.transaction(write=create) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application == 0 and tables == 0 and create:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                return
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise InputError(f"--store {self.path} is a SQLite file of another program, not a tfnas store")
        if version != FORMAT:
            raise InputError(
                f"--store {self.path} has format {version}; this version of tfnas reads format {FORMAT}"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(f"--store {self.path}: {_explanation(error)}") from error


def _explanation(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    explanations = {
        sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
        sqlite3.SQLITE_CORRUPT: "the file is damaged",
        sqlite3.SQLITE_READONLY: "the file is read-only; the results could not be written",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened or its folder cannot be written",
        sqlite3.SQLITE_FULL: "the disk is full; what was written before is kept",
        sqlite3.SQLITE_BUSY: f"another process held the file for {LOCK_TIMEOUT_SECONDS:.0f} s",
    }
    return explanations.get(primary, str(error)) if primary is not None else str(error)
