"""Ground truth: official benchmark files in, compact Parquet tables out."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.truth.table import TruthTable, load_truth, read_table
from spaces.errors import InputError

__all__ = ["FORMATS", "ImportSummary", "TruthTable", "import_truth", "load_truth"]

FORMATS: dict[str, str] = {
    "nasbench201": "official NAS-Bench-201 file (.pth)",
    "nats-bench": "official NATS-Bench folder of the topology space (-simple)",
    "suite-zero": "NAS-Bench-Suite-Zero scores (.json)",
    "table": "CSV or Parquet with an architecture column",
}
"""Formats that `import_truth` reads, with one line each."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote.

    Args:
        source: file or folder that was read.
        out: Parquet file that was written.
        format: one of `FORMATS`.
        architectures: number of rows.
        columns: numeric columns.
        notes: one line each on what was left out or looks wrong in the source.
    """

    source: Path
    out: Path
    format: str
    architectures: int
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def import_truth(source: Path, out: Path, format: str = "auto") -> ImportSummary:
    """Write an official benchmark file or folder, or a table, as a Parquet table that `load_truth` reads.

    `out` appears whole or not at all.

    Args:
        source: file or folder to read.
        out: Parquet file to write; its folder is made where it is missing.
        format: one of `FORMATS`, or auto to tell it from the name.

    Raises:
        InputError: unknown format, nothing at `source`, a source that is damaged or holds something else, or an
            `out` that cannot be written.
    """
    if not source.exists():
        raise InputError(f"source: nothing at {source}; expected {', '.join(FORMATS.values())}")
    if out.suffix != ".parquet" or out.resolve() == source.resolve():
        raise InputError(f"out: {out} must end in .parquet and differ from the source")
    name = _recognise(source) if format == "auto" else format
    frame, notes = _reader(name)(source)
    _write(frame, out)
    columns = tuple(column for column in frame.columns if column != "architecture")
    return ImportSummary(source, out, name, len(frame), columns, notes)


def _recognise(source: Path) -> str:
    if source.is_dir():
        if source.name.endswith("-simple") or (source / "meta.pickle.pbz2").is_file():
            return "nats-bench"
    else:
        by_suffix = {".pth": "nasbench201", ".json": "suite-zero", ".csv": "table", ".parquet": "table"}
        if source.suffix in by_suffix:
            return by_suffix[source.suffix]
    raise InputError(f"source: the format of {source} is unclear; give --format, one of {', '.join(FORMATS)}")


def _reader(name: str) -> Callable[[Path], tuple[pd.DataFrame, tuple[str, ...]]]:
    # Each reader brings packages that the others do not need.
    if name == "nasbench201":
        from harness.truth.nasbench201 import read_nasbench201

        return read_nasbench201
    if name == "nats-bench":
        from harness.truth.nats_bench import read_nats_bench

        return read_nats_bench
    if name == "suite-zero":
        from harness.truth.suite_zero import read_suite_zero

        return read_suite_zero
    if name == "table":
        return read_table
    raise InputError(f"format: {name!r} is unknown; allowed: auto, {', '.join(FORMATS)}")


def _write(frame: pd.DataFrame, out: Path) -> None:
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(unfinished, index=False, compression="zstd")
        unfinished.replace(out)
    except OSError as error:
        raise InputError(f"out: cannot write {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
