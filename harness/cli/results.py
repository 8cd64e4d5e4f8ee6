"""`tfnas import`, `correlate`, `report` and `export`: truth in, statistics and tables out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.options import command_line, print_json, say
from spaces.errors import InputError

if TYPE_CHECKING:
    from harness.comparison import Comparison
    from harness.store import Store
    from reports.build import Rule
    from reports.page import Cost
    from reports.statistics import Agreement


def import_table(
    source: Annotated[Path, typer.Argument(help="Official file or folder, or a CSV or Parquet table.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    source_format: Annotated[
        str, typer.Option("--format", help="auto, nasbench201, nats-bench, suite-zero or table.")
    ] = "auto",
    as_json: options.Json = False,
) -> None:
    """Turn official ground truth into a compact table."""
    from dataclasses import asdict

    from harness.truth import import_truth

    summary = import_truth(source, out, source_format)
    if as_json:
        print_json({**asdict(summary), "source": str(summary.source), "out": str(summary.out)})
        return
    print(f"{summary.out}: {summary.architectures} architectures from {summary.source} ({summary.format})")
    print(f"columns: {', '.join(summary.columns)}")
    for note in summary.notes:
        print(f"note: {note}")


def correlate(
    space: options.Space = "nasbench201",
    scorer: Annotated[list[str] | None, typer.Option("--scorer", help="Only these scorers, repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only scores on this data set.")] = None,
    truth: options.TruthName = "trained",
    column: options.Column = None,
    baseline: options.Baselines = [],  # noqa: B006 - typer copies it
    drop_missing: options.DropMissing = False,
    unscored: options.Unscored = "drop",
    top_k: options.TopK = 10,
    store: options.StorePath = options.DEFAULT_STORE,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, all columns.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Say how well the scores rank the truth, with intervals."""
    from harness.store import Store
    from reports.tables import console_table, markdown_table

    with Store(store, create=False) as opened:
        comparisons = compared(opened, truth, column, space, scorer or [], dataset, baseline, drop_missing)
    found = agreed(comparisons, unscored, top_k)
    if as_json:
        print_json([document(comparison, row) for comparison, row in zip(comparisons, found, strict=True)])
        return
    if markdown:
        print(markdown_table(found))
    else:
        print_table(console_table(found))


def report(
    space: options.Space = "nasbench201",
    scorer: Annotated[list[str] | None, typer.Option("--scorer", help="Only these scorers, repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only scores on this data set.")] = None,
    truth: options.TruthName = "trained",
    column: options.Column = None,
    baseline: options.Baselines = [],  # noqa: B006 - typer copies it
    drop_missing: options.DropMissing = False,
    unscored: options.Unscored = "drop",
    top_k: options.TopK = 10,
    store: options.StorePath = options.DEFAULT_STORE,
    out: options.Out = options.DEFAULT_REPORT,
    as_json: options.Json = False,
) -> None:
    """Write the HTML page and its pictures."""
    from harness.store import Store

    with Store(store, create=False) as opened:
        comparisons = compared(opened, truth, column, space, scorer or [], dataset, baseline, drop_missing)
    page = write_page(comparisons, agreed(comparisons, unscored, top_k), space, out)
    if as_json:
        print_json({"page": str(page)})
    else:
        print(page)


def export(
    out_format: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="File to write; CSV goes to stdout without it.")] = None,
    store: options.StorePath = options.DEFAULT_STORE,
) -> None:
    """Write every score in the order asked for."""
    import pandas as pd

    from harness.store import EXPORT_COLUMNS, Store

    if out_format not in ("csv", "parquet"):
        raise InputError(f"unknown --format {out_format!r}; allowed: csv, parquet")
    if out_format == "parquet" and out is None:
        raise InputError("--format parquet needs --out FILE")
    if out is not None and out.exists() and not out.is_file():
        raise InputError(f"--out {out} is not a file; CSV goes to stdout without --out")
    with Store(store, create=False) as opened:
        frame = pd.DataFrame(opened.export(), columns=list(EXPORT_COLUMNS))
    if out is None:
        frame.to_csv(sys.stdout, index=False)
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out_format == "csv":
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial, index=False)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from error
    say(f"{out}: {len(frame)} rows")


def compared(
    store: Store,
    truth: str,
    column: str | None,
    space: str,
    scorers: list[str],
    dataset: str | None,
    baselines: list[str],
    drop_missing: bool,
) -> list[Comparison]:
    """Comparisons of the store's scores with the truth that the options name."""
    from harness.comparison import (
        TRAINED,
        compare,
        matching_contexts,
        newest_training,
        table_column,
        table_truth,
        trained_truth,
    )
    from harness.truth import load_truth
    from spaces.registry import load_space

    loaded = load_space(space)
    contexts = matching_contexts(store, space, scorers, dataset)
    if truth == TRAINED:
        if baselines:
            raise InputError("--baseline names a column of a truth table; give --truth FILE with it")
        return compare(store, contexts, trained_truth(store, newest_training(store, space), column))
    table = load_truth(Path(truth))
    return compare(
        store,
        contexts,
        table_truth(table, column, loaded),
        baselines={name: table_column(table, name, loaded) for name in baselines},
        drop_missing=drop_missing,
    )


def agreed(comparisons: list[Comparison], unscored: str, top_k: int) -> list[Agreement]:
    """Statistics of the comparisons by the rule that the option names."""
    from reports.build import agreements

    rules: dict[str, Rule] = {"drop": "drop", "last": "last"}
    if unscored not in rules:
        raise InputError(f"unknown --unscored {unscored!r}; allowed: drop, last")
    return agreements(comparisons, unscored=rules[unscored], top_k=top_k)


def document(comparison: Comparison, row: Agreement) -> dict[str, object]:
    """One object of `correlate --json`: the statistics and what was scored."""
    context = comparison.context
    return {
        **row.as_row(),
        "dataset": context.dataset if context else None,
        "batch": context.batch if context else None,
        "batch_size": context.batch_size if context else None,
        "seed": context.seed if context else None,
        "reasons": dict(comparison.unscored),
    }


def write_page(
    comparisons: list[Comparison], found: list[Agreement], space: str, out: Path, costs: Sequence[Cost] = ()
) -> Path:
    """Write the report of these comparisons; returns the page."""
    from reports.build import build_report
    from reports.page import write_report

    title = f"How well untrained scores rank {space}"
    return write_report(build_report(title, comparisons, found, command=command_line(), extra=costs), out)


def print_table(table: object) -> None:
    """A table on stdout, at full width where stdout is no terminal."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)
