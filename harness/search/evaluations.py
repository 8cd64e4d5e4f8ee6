"""Evolutions in the store: every individual in the order proposed, and the order in which they were finished.

The rows that are not finished are the queue. What was finished before an individual was proposed, `known`, and
the order of finishing are the trace: with the seed they decide every proposal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields

from harness.store import Store
from spaces.errors import InputError

SCHEMA = """
CREATE TABLE IF NOT EXISTS individuals (
    context INTEGER NOT NULL REFERENCES search_contexts(id),
    step INTEGER NOT NULL, architecture TEXT NOT NULL, canonical TEXT NOT NULL, parent INTEGER,
    known INTEGER NOT NULL, least_score REAL,
    finished INTEGER, fitness REAL, reason TEXT, score REAL, evaluation_seconds REAL, seconds REAL,
    PRIMARY KEY (context, step)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Individual:
    """A step of an evolution. The fields from `finished` on are None while it is in the queue.

    `parent` is the step of the individual that it was mutated from (None: drawn), `known` how many were finished
    when it was proposed and `least_score` what made it worth training then. It is number `finished`, from 0, of
    those that were; `fitness` is what is maximised, or `reason` says why there is none. `evaluation_seconds` were
    spent by a worker, none where the fitness was known already; `seconds` are since the search began, over all its
    runs.
    """

    step: int
    architecture: str
    canonical: str
    parent: int | None
    known: int
    least_score: float | None = None
    finished: int | None = None
    fitness: float | None = None
    reason: str | None = None
    score: float | None = None
    evaluation_seconds: float | None = None
    seconds: float | None = None


@contextmanager
def frequent_writes(store: Store) -> Iterator[None]:
    """Writes inside the block wait for no disk: SQLite appends them to a log beside the store.

    A killed process still loses nothing. A machine that loses power may lose the last few, and the file is whole.
    Measured on a disk that takes 20 ms to sync: 50 transactions a second before, 2,900 inside.
    """
    store.rows("PRAGMA journal_mode = WAL")
    store.rows("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        store.rows("PRAGMA synchronous = FULL")
        # Whoever reads the store meanwhile keeps the log open; then the next search puts it away.
        with suppress(InputError):
            store.rows("PRAGMA journal_mode = DELETE")


class IndividualTable:
    """The individuals of one evolution in a store."""

    def __init__(self, store: Store, context: int) -> None:
        self._store = store
        self._context = context
        store.add_tables(SCHEMA)

    def write(self, individuals: Sequence[Individual]) -> None:
        """Write individuals in one transaction, new ones and those that are now finished."""
        values = ", ".join("?" * (1 + len(fields(Individual))))
        self._store.insert(
            f"INSERT OR REPLACE INTO individuals VALUES ({values})",
            [(self._context, *vars(individual).values()) for individual in individuals],
        )

    def read(self) -> list[Individual]:
        """All individuals by step."""
        columns = ", ".join(field.name for field in fields(Individual))
        rows = self._store.rows(
            f"SELECT {columns} FROM individuals WHERE context = ? ORDER BY step", self._context
        )
        return [Individual(*row) for row in rows]
