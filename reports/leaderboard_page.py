"""The leaderboard for people: console, Markdown, and one page with rank correlation against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.ticker import FuncFormatter, NullFormatter
from rich import box
from rich.table import Table

from reports.html import Head, facts, fill_page, image, note, section, table, write_files
from reports.leaderboard import Entry
from reports.plots import ACCENT, INK, QUIET, calm, new_figure, png_bytes, short_number
from reports.tables import _escaped, _overlap, _true_value

LONGEST_NAME = 30
"""Characters of a name that have room in the picture."""


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard."""

    head: str
    help: str
    text: Callable[[Entry], str]
    is_text: bool = False


def _figure_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _behind(entry: Entry) -> str:
    if entry.behind.value == 0:
        return "best"
    return f"{entry.behind}{' (not significant)' if entry.as_good_as_best else ''}"


COLUMNS = (
    Column("Ranking", "What ranks the architectures; more is better.", lambda row: row.name, True),
    Column("n", "Architectures, the same for every row.", lambda row: f"{row.agreement.n:,}"),
    Column("Unscored", "Of these without a score.", lambda row: f"{row.agreement.unscored:,}"),
    Column("Kendall", "Kendall's tau-b with the truth.", lambda row: str(row.agreement.kendall)),
    Column("Spearman", "Correlation of the ranks.", lambda row: str(row.agreement.spearman)),
    Column("Behind the best", "Kendall of the first row minus this one's, on the same draws.", _behind),
    Column("In the best 10 %", "Kendall among the truth's best tenth.", lambda row: str(row.in_best)),
    Column(
        "Beyond size",
        "Partial Kendall: parameters and FLOPs held.",
        lambda row: _figure_text(row.beyond_size),
    ),
    Column("Top k shared", "How many of the truth's best k it puts first.", lambda row: _overlap(row.agreement)),
    Column(
        "Regret",
        "Best true value of all minus the best of the k put first.",
        lambda row: _true_value(row.agreement.regret, row.agreement),
    ),
    Column(
        "Seconds",
        "Mean for one architecture in one process, building included; a shared pass counts for each score.",
        lambda row: "" if math.isnan(row.seconds) else short_number(row.seconds),
    ),
    Column("Published", "Kendall / Spearman as printed by the sources.", lambda row: row.published, True),
)


def console_table(entries: Sequence[Entry]) -> Table:
    """A table for the console; published figures are on the page."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in COLUMNS[:-1]:
        table.add_column(column.head, justify="left" if column.is_text else "right", overflow="fold")
    for entry in entries:
        table.add_row(*(column.text(entry) for column in COLUMNS[:-1]))
    return table


def markdown_table(entries: Sequence[Entry]) -> str:
    """A Markdown table with every column, ending in a line end."""
    lines = [
        "| " + " | ".join(column.head for column in COLUMNS) + " |",
        "| " + " | ".join("---" if column.is_text else "---:" for column in COLUMNS) + " |",
    ]
    lines += ["| " + " | ".join(_escaped(column.text(entry)) for column in COLUMNS) + " |" for entry in entries]
    return "\n".join(lines) + "\n"


def correlation_against_cost(entries: Sequence[Entry]) -> bytes:
    """Kendall with its interval against seconds an architecture, as PNG; a line for each row of unknown cost."""
    figure = new_figure(height=4.4)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.83))
    calm(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds an architecture", loc="left")
    axes.set_ylabel("Kendall's tau")
    ranked = [entry for entry in entries if not math.isnan(entry.agreement.kendall.value)]
    timed = [entry for entry in ranked if entry.seconds > 0]
    if timed:
        seconds = [entry.seconds for entry in timed]
        axes.set_xlim(min(seconds) / 2, max(seconds) * 5)
    for entry in timed:
        kendall = entry.agreement.kendall
        axes.plot([entry.seconds] * 2, [kendall.low, kendall.high], color=ACCENT, alpha=0.4, linewidth=1)
        axes.plot(entry.seconds, kendall.value, "o", color=ACCENT, markersize=5)
        name = entry.name if len(entry.name) <= LONGEST_NAME else f"{entry.name[: LONGEST_NAME - 1]}…"
        place = (entry.seconds, kendall.value)
        axes.annotate(name, place, (5, 2), textcoords="offset points", size=7, color=INK, parse_math=False)
    for entry in ranked:
        if math.isnan(entry.seconds):
            value = entry.agreement.kendall.value
            axes.axhline(value, color=QUIET, linewidth=0.8, linestyle=(0, (3, 2)))
            across = axes.get_yaxis_transform()
            axes.text(0.995, value, entry.name, transform=across, size=7, color=QUIET, ha="right", va="bottom")
    return png_bytes(figure)


def write_leaderboard(
    boards: Mapping[str, Sequence[Entry]], space: str, provenance: Mapping[str, str], folder: Path
) -> Path:
    """Write `index.html` with the boards by name of the truth, and a picture for each; returns the page.

    Raises `InputError` where the folder cannot be written.
    """
    pictures = {f"{truth}-against-cost.png": correlation_against_cost(board) for truth, board in boards.items()}
    sections = [
        _board_section(truth, board, name, picture)
        for (truth, board), (name, picture) in zip(boards.items(), pictures.items(), strict=True)
    ]
    page = fill_page(
        f"Training-free scores on {space}",
        " ".join(_finding(truth, board) for truth, board in boards.items()),
        [*sections, section("How it was made", facts(provenance))],
    )
    write_files(folder, {**pictures, "index.html": page.encode()})
    return folder / "index.html"


def _board_section(truth: str, board: Sequence[Entry], name: str, picture: bytes) -> str:
    heads = [Head(column.head, column.help, column.is_text) for column in COLUMNS]
    explained = note(
        "In brackets 95 % bootstrap intervals over architectures, on the same draws for every row. Correlations "
        "keep their sign. In the picture, dashed lines are rankings whose cost is not known here."
    )
    frame = f'<div class="frame">{image(picture, f"Rank correlation with {truth} against cost")}</div>'
    figure = f"<figure>{frame}<figcaption>Also in {escape(name)}.</figcaption></figure>"
    rows = [[column.text(entry) for column in COLUMNS] for entry in board]
    return section(f"Against {truth}", table(heads, rows), explained, figure)


def _finding(truth: str, board: Sequence[Entry]) -> str:
    """The best row, and which cannot be told from it."""
    best, *others = board
    equal = [entry.name for entry in others if entry.as_good_as_best]
    rest = f"{', '.join(equal)} cannot be told from it" if equal else "all others are behind for certain"
    agreement = best.agreement
    return (
        f"By {truth}, {best.name} ranks {agreement.n:,} architectures best: Kendall {agreement.kendall}; {rest}."
    )
