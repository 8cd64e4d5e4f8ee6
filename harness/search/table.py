"""Searches in the store: what each depended on, its epochs as they came, and what it found."""

from __future__ import annotations

import json
import math
from dataclasses import astuple, fields
from typing import Any

from harness.machine import versions
from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS search_contexts (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL, method TEXT NOT NULL, recipe TEXT NOT NULL, settings TEXT NOT NULL,
    seed INTEGER NOT NULL, dataset TEXT NOT NULL, data TEXT NOT NULL, device TEXT NOT NULL,
    UNIQUE (space, method, recipe, settings, seed, data, device)
);
CREATE TABLE IF NOT EXISTS searches (
    context INTEGER PRIMARY KEY REFERENCES search_contexts(id),
    architecture TEXT NOT NULL, rule TEXT NOT NULL, epoch INTEGER NOT NULL, reason TEXT NOT NULL,
    seconds REAL NOT NULL, versions TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS search_epochs (
    context INTEGER NOT NULL REFERENCES search_contexts(id),
    epoch INTEGER NOT NULL, architecture TEXT NOT NULL, skips INTEGER NOT NULL, searching INTEGER NOT NULL,
    operations TEXT NOT NULL, learnable TEXT NOT NULL, alphas TEXT NOT NULL, learning_rate REAL NOT NULL,
    train_loss REAL, train_accuracy REAL NOT NULL, validation_loss REAL, validation_accuracy REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (context, epoch)
)
"""

_AS_JSON = ("operations", "learnable", "alphas")


class SearchTable:
    """The part of a store that holds searches; a store that never held one reads as empty."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def context(self, context: SearchContext) -> int:
        """Number of this context, made if new; the name of the data set is for people only."""
        self._store.add_tables(SCHEMA)
        return self._store.context("search_contexts", context, "dataset")

    def contexts(self) -> dict[int, SearchContext]:
        """All contexts by number, in the order they were made."""
        if not self._store.has_table("search_contexts"):
            return {}
        columns = ", ".join(field.name for field in fields(SearchContext))
        rows = self._store.rows(f"SELECT id, {columns} FROM search_contexts ORDER BY id")
        return {row[0]: SearchContext(*row[1:]) for row in rows}

    def add_epochs(self, context: int, epochs: list[SearchEpoch]) -> None:
        """Write epochs; those that are there already are replaced."""
        values = ", ".join("?" * (1 + len(fields(SearchEpoch))))
        self._store.insert(
            f"INSERT OR REPLACE INTO search_epochs VALUES ({values})",
            [(context, *_epoch_row(epoch)) for epoch in epochs],
        )

    def epochs(self, context: int) -> list[SearchEpoch]:
        """Epochs of a search so far, in order."""
        columns = ", ".join(field.name for field in fields(SearchEpoch))
        rows = self._store.rows(f"SELECT {columns} FROM search_epochs WHERE context = ? ORDER BY epoch", context)
        return [_epoch(row) for row in rows]

    def add_result(self, context: int, record: SearchRecord) -> None:
        """Write what a search found."""
        self._store.insert(
            "INSERT OR REPLACE INTO searches VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(context, *astuple(record), versions())],
        )

    def result(self, context: int) -> SearchRecord | None:
        """What a search found, or None while it runs."""
        rows = self._store.rows(
            "SELECT architecture, rule, epoch, reason, seconds FROM searches WHERE context = ?", context
        )
        return SearchRecord(*rows[0]) if rows else None


def _epoch_row(epoch: SearchEpoch) -> tuple[Any, ...]:
    values = {field.name: getattr(epoch, field.name) for field in fields(epoch)}
    return tuple(json.dumps(value) if name in _AS_JSON else value for name, value in values.items())


def _epoch(row: tuple[Any, ...]) -> SearchEpoch:
    values: dict[str, Any] = dict(zip((field.name for field in fields(SearchEpoch)), row, strict=True))
    for name in _AS_JSON:
        values[name] = json.loads(values[name])
    for name in ("train_loss", "validation_loss"):
        values[name] = math.nan if values[name] is None else values[name]
    values |= {
        "operations": tuple(values["operations"]),
        "learnable": tuple(values["learnable"]),
        "searching": bool(values["searching"]),
    }
    return SearchEpoch(**values)
