"""Published scores and accuracies of NAS-Bench-Suite-Zero from its JSON files (`zc_nasbench201.json` and others).

The files map data set, then architecture, to proxies: `{"score": ..., "time": seconds}` in the released files,
bare numbers below the name of the space in the early ones. Columns: `val_{dataset}` (percent), `{proxy}_{dataset}`
and `{proxy}_seconds_{dataset}`.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from spaces.errors import InputError

OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""NASLib's numbering of the operations of NAS-Bench-201 (conversions.py, OP_NAMES_NB201)."""

EDGE_POSITIONS = ((0,), (1, 3), (2, 4, 5))
"""For each node after the input, the places of its edges in NASLib's list (0-1, 0-2, 0-3, 1-2, 1-3, 2-3)."""

NASBENCH201_DATASETS = frozenset({"cifar10", "cifar100", "ImageNet16-120"})
SPACE_NAMES = ("nasbench101", "nasbench201", "nasbench301", "transbench101_micro", "transbench101_macro")
IDENTIFIERS = frozenset({"id", "idx", "arch"})

SIX_NUMBERS = re.compile(r"[(\[]\s*[0-4](\s*,\s*[0-4]){5}\s*[)\]]")
"""A key of NAS-Bench-201, such as "(4, 0, 3, 1, 4, 3)"."""

FAILED = -1e8
"""What the files hold where a proxy gave no score."""


def read_suite_zero(source: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Frame and notes of a Suite-Zero file; scores marked as failed become NaN.

    Raises:
        InputError: not JSON, not of this form, or two keys of one data set mean the same architecture.
    """
    space, datasets = _contents(source)
    official = _is_nasbench201(space, datasets)
    rows: dict[str, dict[str, float]] = {}
    dropped: set[str] = set()
    failed = 0
    for dataset, entries in datasets.items():
        labels = {key: nasbench201_architecture(key) if official else key for key in entries}
        if len(set(labels.values())) < len(labels):
            raise InputError(f"truth: {source} holds an architecture twice in {dataset}")
        for key, entry in entries.items():
            row = rows.setdefault(labels[key], {})
            for column, value in _values(dataset, entry):
                if isinstance(value, bool | str | list | dict):
                    dropped.add(column)
                    continue
                failed += value == FAILED
                row[column] = math.nan if value is None or value == FAILED else float(value)
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("architecture").reset_index()
    if frame.shape[1] < 2:
        raise InputError(f"truth: {source} holds no score and no accuracy")
    notes = (
        "architectures converted from NASLib's six numbers"
        if official
        else "architectures are the file's own keys",
        f"{failed} scores are marked as failed and stand as missing" if failed else "",
        f"left out, not numeric: {', '.join(sorted(dropped))}" if dropped else "",
    )
    return frame, tuple(note for note in notes if note)


def nasbench201_architecture(key: str) -> str:
    """Official NAS-Bench-201 string of six operation numbers in NASLib's coding, such as "(4, 0, 3, 1, 4, 3)"."""
    operations = [OPERATIONS[int(number)] for number in re.findall(r"\d", key)]
    nodes = (
        "|".join(f"{operations[position]}~{source}" for source, position in enumerate(positions))
        for positions in EDGE_POSITIONS
    )
    return "+".join(f"|{node}|" for node in nodes)


def _contents(source: Path) -> tuple[str | None, dict[str, dict[str, dict[str, Any]]]]:
    """Name of the space where the file gives it, and its data sets."""
    try:
        contents = json.loads(source.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"truth: cannot read {source} as JSON: {error}") from error
    space = next((name for name in SPACE_NAMES if isinstance(contents, dict) and list(contents) == [name]), None)
    datasets = contents[space] if space else contents
    if not (
        isinstance(datasets, dict)
        and all(isinstance(entries, dict) for entries in datasets.values())
        and all(isinstance(entry, dict) for entries in datasets.values() for entry in entries.values())
    ):
        raise InputError(f"truth: {source} is not a Suite-Zero file; expected data set, architecture, scores")
    return space, datasets


def _is_nasbench201(space: str | None, datasets: dict[str, dict[str, dict[str, Any]]]) -> bool:
    # TransNAS-Bench-101 writes other cells as six numbers too, so the form of the keys alone does not tell.
    if space not in (None, "nasbench201") or (space is None and NASBENCH201_DATASETS.isdisjoint(datasets)):
        return False
    return all(SIX_NUMBERS.fullmatch(key) for entries in datasets.values() for key in entries)


def _values(dataset: str, entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        if name == "val_accuracy":
            yield f"val_{dataset}", value
        elif isinstance(value, dict):
            yield f"{name}_{dataset}", value.get("score")
            yield f"{name}_seconds_{dataset}", value.get("time")
        elif name not in IDENTIFIERS:
            yield f"{name}_{dataset}", value
