"""Agreements as tables: for the console, for a README and, through the same columns, for the page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from reports.statistics import Agreement, Interval


@dataclass(frozen=True)
class Column:
    """One column of an agreement table."""

    head: str
    help: str
    """One sentence that explains the head."""
    text: Callable[[Agreement], str]
    is_text: bool = False
    """Whether it holds words, which stand left, not figures, which stand right."""


def _true_value(value: float, row: Agreement) -> str:
    """A value in the unit of the truth: two decimals for percent, four for shares, ``n/a`` for none."""
    if math.isnan(value):
        return "n/a"
    return f"{value:.2f}" if abs(row.best_of_top_k) > 1 else f"{value:.4f}"


def _overlap(agreement: Agreement) -> str:
    """The overlap as a count, which also says k: ``4 of 10``."""
    if math.isnan(agreement.top_k_overlap):
        return "n/a"
    return f"{round(agreement.top_k_overlap * agreement.top_k)} of {agreement.top_k}"


INTERVAL_HELP = "In brackets the 95 % bootstrap interval over architectures."
COLUMNS = (
    Column("Ranking", "What ranks the architectures; more is better.", lambda row: row.scorer, True),
    Column("Truth", "Column of trained accuracy it is compared with.", lambda row: row.truth, True),
    Column("n", "Architectures that the correlations use.", lambda row: f"{row.n:,}"),
    Column("Unscored", "Architectures with a truth but without a score.", lambda row: f"{row.unscored:,}"),
    Column(
        "Kendall",
        f"Kendall's tau-b: share of pairs in the right order minus share in the wrong one. {INTERVAL_HELP}",
        lambda row: str(row.kendall),
    ),
    Column("Spearman", f"Correlation of the ranks. {INTERVAL_HELP}", lambda row: str(row.spearman)),
    Column("Pearson", f"Correlation of the values. {INTERVAL_HELP}", lambda row: str(row.pearson)),
    Column(
        "Top k shared",
        "How many of the truth's best k are among the k that the ranking puts first.",
        _overlap,
    ),
    Column(
        "Best of top k",
        "Best true value among the k put first. Unscored ones come last, ties keep the order given.",
        lambda row: _true_value(row.best_of_top_k, row),
    ),
    Column(
        "Regret", "Best true value of all minus the best of the top k.", lambda row: _true_value(row.regret, row)
    ),
    Column("First choice", "True value of the ranking's first choice.", lambda row: _true_value(row.top_1, row)),
)


def console_table(agreements: Sequence[Agreement]) -> Table:
    """A table that fits 80 columns: two lines a ranking, the heads name both."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Ranking\nagainst truth", overflow="fold")
    for head in (
        "Pairs\nunscored",
        "Kendall\n[95 %]",
        "Spearman\nPearson",
        "Top k\nshared",
        "Best\nregret",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for row in agreements:
        kendall, _, interval = str(row.kendall).partition(" ")
        lines = (
            (row.scorer, row.truth),
            (f"{row.n:,}", f"{row.unscored:,}"),
            (kendall, interval),
            (_value(row.spearman), _value(row.pearson)),
            (_overlap(row), ""),
            (_true_value(row.best_of_top_k, row), _true_value(row.regret, row)),
        )
        table.add_row(*(Text.assemble(first, "\n", (second, "dim")) for first, second in lines))
    return table


def _value(interval: Interval) -> str:
    """The value without its interval."""
    return str(interval).partition(" ")[0]


def markdown_table(agreements: Sequence[Agreement]) -> str:
    """A Markdown table with every column, ending in a line end; text columns left, figures right."""
    lines = [
        "| " + " | ".join(column.head for column in COLUMNS) + " |",
        "| " + " | ".join("---" if column.is_text else "---:" for column in COLUMNS) + " |",
    ]
    for row in agreements:
        lines.append("| " + " | ".join(_escaped(column.text(row)) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text that cannot end a Markdown cell or row."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
