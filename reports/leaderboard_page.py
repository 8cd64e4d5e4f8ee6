"""The leaderboard for people: console, Markdown, and one page with rank correlation against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox, Transform
from rich import box
from rich.table import Table

from reports.html import Head, facts, fill_page, image, note, section, table, write_files
from reports.leaderboard import Entry
from reports.plots import ACCENT, INK, QUIET, calm, new_figure, png_bytes, short_number
from reports.published import SOURCES
from reports.tables import _escaped, _overlap, _true_value

LONGEST_NAME = 30
"""Characters of a name that have room in the picture."""

SHORTEST = 0.001
"""Seconds below which a score is for nothing, and the axis of the picture begins."""

LABEL_PLACES = ((5, 2), (5, -7), (-5, 2), (-5, -7), (5, 9), (-5, 9), (5, -14), (-5, -14), (0, 16), (0, -21))
"""Where a name may stand beside its point, in points; the first that is free is taken."""


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


def _ahead(entry: Entry) -> str:
    if entry.ahead.value == 0:
        return "the bar"
    return "" if math.isnan(entry.ahead.value) else str(entry.ahead)


def _seconds(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    return short_number(seconds) if seconds >= SHORTEST else f"< {SHORTEST}"


COLUMNS = (
    Column("Ranking", "What ranks the architectures; more is better.", lambda row: row.name, True),
    Column("Unscored", "Architectures without a score.", lambda row: f"{row.agreement.unscored:,}"),
    Column("Kendall", "Kendall's tau-b with the truth.", lambda row: str(row.agreement.kendall)),
    Column("Spearman", "Correlation of the ranks.", lambda row: str(row.agreement.spearman)),
    Column("Behind the best", "Kendall of the first row minus this one's, on the same draws.", _behind),
    Column("Ahead of the bar", "This row's Kendall minus that of the ranking by training.", _ahead),
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
        "Mean for one architecture in one process, building included; a shared pass counts for each score, and "
        "once for a combination.",
        lambda row: _seconds(row.seconds),
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
    timed = [(entry, max(entry.seconds, SHORTEST)) for entry in ranked if entry.seconds > 0]
    if timed:
        seconds = [second for _, second in timed]
        axes.set_xlim(min(seconds) / 2, max(seconds) * 5)
    for entry, second in timed:
        kendall = entry.agreement.kendall
        axes.plot([second] * 2, [kendall.low, kendall.high], color=ACCENT, alpha=0.4, linewidth=1)
        inside = "white" if entry.trained else ACCENT
        axes.plot(second, kendall.value, "o", color=ACCENT, markerfacecolor=inside, markersize=5)
    labels = []
    for entry in ranked:
        if math.isnan(entry.seconds):
            value = entry.agreement.kendall.value
            axes.axhline(value, color=QUIET, linewidth=0.8, linestyle=(0, (3, 2)))
            labels.append(label_at(axes, entry.name, (0.0, value), axes.get_yaxis_transform(), color=QUIET))
    for entry, second in timed:
        labels.append(label_at(axes, entry.name, (second, entry.agreement.kendall.value), axes.transData))
    points = [axes.transData.transform((second, entry.agreement.kendall.value)) for entry, second in timed]
    spread(figure, labels, [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in points])
    return png_bytes(figure)


def label_at(
    axes: Axes, name: str, place: tuple[float, float], transform: Transform, color: str = INK
) -> Annotation:
    """The name beside its point, to be moved by `spread`."""
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return axes.annotate(
        short, place, LABEL_PLACES[0], xycoords=transform, textcoords="offset points", size=7, color=color,
        parse_math=False,
    )  # fmt: skip


def spread(figure: Figure, labels: Sequence[Annotation], points: Sequence[Bbox] = ()) -> None:
    """Put each label where it covers no other and no point and stays in the figure, if there is such a place."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    taken = list(points)
    for label in labels:
        boxes = []
        for across, up in LABEL_PLACES:
            label.set_position((across, up))
            label.set_horizontalalignment("left" if across > 0 else "right" if across < 0 else "center")
            box = label.get_window_extent(renderer)
            boxes.append(box)
            outside = box.x0 < 0 or box.x1 > figure.bbox.x1
            if not outside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(boxes[-1])


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
    columns = COLUMNS[:-1]
    heads = [Head(column.head, column.help, column.is_text) for column in columns]
    explained = note(
        f"{board[0].agreement.n:,} architectures, the same for every row. In brackets 95 % bootstrap intervals "
        "over architectures, on the same draws for every row. Correlations keep their sign. In the picture, "
        "dashed lines are rankings whose cost is not known here, hollow points need trained architectures, and "
        f"what takes less than {SHORTEST} s stands there."
    )
    frame = f'<div class="frame">{image(picture, f"Rank correlation with {truth} against cost")}</div>'
    figure = f"<figure>{frame}<figcaption>Also in {escape(name)}.</figcaption></figure>"
    rows = [[column.text(entry) for column in columns] for entry in board]
    return section(f"Against {truth}", table(heads, rows), explained, figure, *_beside_published(board))


def _beside_published(board: Sequence[Entry]) -> list[str]:
    """Our figures and the sources', as a table of its own; nothing where no source has any."""
    rows = [
        [
            entry.name,
            f"{entry.agreement.kendall.value:.3f} / {entry.agreement.spearman.value:.3f}",
            entry.published,
        ]
        for entry in board
        if entry.published
    ]
    if not rows:
        return []
    heads = [Head("Ranking", "", True), Head("Here", "Kendall / Spearman."), Head("Published", "The same.", True)]
    return [table(heads, rows), note(f"Kendall / Spearman on other samples of cells. {SOURCES}.")]


def _finding(truth: str, board: Sequence[Entry]) -> str:
    """The best row, which cannot be told from it, the best without training, and what beats the bar."""
    best, *others = board
    equal = [entry.name for entry in others if entry.as_good_as_best]
    rest = f"{', '.join(equal)} cannot be told from it" if equal else "all others are behind for certain"
    count = best.agreement.n
    sentences = [
        f"By {truth}, {best.name} ranks {count:,} architectures best: Kendall {best.agreement.kendall}; {rest}."
    ]
    untrained = [entry for entry in board if not entry.trained]
    if best.trained and untrained:
        first = untrained[0]
        sentences.append(f"Without any training the best is {first.name}: {first.agreement.kendall}.")
    bar = next((entry for entry in board if entry.ahead.value == 0), None)
    if bar is not None:
        ahead = [entry.name for entry in untrained if entry.beats_the_bar]
        sentences.append(f"For certain better than {bar.name} without training: {', '.join(ahead) or 'none'}.")
    return " ".join(sentences)
