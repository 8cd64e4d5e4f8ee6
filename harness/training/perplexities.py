"""Perplexities of trained language models in the store, beside the accuracies that every training has."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import TrainingRecord
from harness.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS perplexities (
    context INTEGER NOT NULL REFERENCES training_contexts(id),
    canonical TEXT NOT NULL, validation REAL NOT NULL, test REAL NOT NULL,
    best_epoch INTEGER NOT NULL, averaged_since INTEGER,
    PRIMARY KEY (context, canonical)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class PerplexityRecord(TrainingRecord):
    """A finished training on text. Its accuracies are shares of next tokens in percent that were the likeliest.

    All are those of the weights after `best_epoch`; weights were averaged from `averaged_since` on, None: never.
    """

    validation_perplexity: float
    test_perplexity: float
    best_epoch: int
    averaged_since: int | None


class PerplexityTable:
    """The part of a store that holds perplexities; a store that never held one reads as empty."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, context: int, record: PerplexityRecord) -> None:
        """Write those of a training; what is there already is replaced."""
        self._store.add_tables(SCHEMA)
        values = (record.validation_perplexity, record.test_perplexity, record.best_epoch, record.averaged_since)
        self._store.insert(
            "INSERT OR REPLACE INTO perplexities VALUES (?, ?, ?, ?, ?, ?)", [(context, record.canonical, *values)]
        )

    def read(self, context: int) -> dict[str, PerplexityRecord]:
        """Every finished training on text of a context, by canonical text."""
        if not self._store.has_table("perplexities"):
            return {}
        known = self._store.trainings(context)
        rows = self._store.rows(
            "SELECT canonical, validation, test, best_epoch, averaged_since FROM perplexities WHERE context = ?",
            context,
        )
        return {
            canonical: PerplexityRecord(
                **vars(known[canonical]),
                validation_perplexity=validation,
                test_perplexity=test,
                best_epoch=best_epoch,
                averaged_since=averaged_since,
            )
            for canonical, validation, test, best_epoch, averaged_since in rows
            if canonical in known
        }
