"""A report as one self-contained HTML page, with its pictures as PNG files beside it."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from reports.html import Head, facts, fill_page, image, note, section, table, write_files
from reports.plots import Scatter, scatter, short_number, throughput
from reports.statistics import Agreement, Floats
from reports.tables import COLUMNS


@dataclass(frozen=True)
class Ranking:
    """One scorer's values: float64 [n] each, NaN for none, with the n architectures' texts."""

    scorer: str
    scores: Floats
    truth: Floats
    labels: list[str]
    agreement: Agreement


@dataclass(frozen=True)
class Cost:
    """What one ranking cost: wall clock of everything, building and copying included."""

    name: str
    architectures: int
    seconds: float
    note: str
    """What a reader must know to compare, such as device and batch."""

    @property
    def per_minute(self) -> float:
        """Architectures a minute; NaN where no time was measured."""
        return 60 * self.architectures / self.seconds if self.seconds > 0 else math.nan


@dataclass(frozen=True)
class Report:
    """Everything that a page shows; all text is plain text."""

    title: str
    summary: str
    """One or two sentences: what was measured and found."""
    rankings: tuple[Ranking, ...]
    unscored: Mapping[str, Mapping[str, int]]
    """Scorer -> reason -> number of architectures."""
    cost: tuple[Cost, ...]
    provenance: Mapping[str, str]
    """Versions, command, seeds, hashes, device."""


def write_report(report: Report, folder: Path) -> Path:
    """Write ``index.html`` and the PNG files into ``folder``, each all or nothing; returns the page's path.

    The page holds its pictures, styles and script itself and asks for nothing from anywhere. Raises InputError
    where the folder cannot be written.
    """
    scatters = [
        scatter(
            ranking.scores,
            ranking.truth,
            scorer=ranking.scorer,
            truth_name=ranking.agreement.truth,
            agreement=ranking.agreement,
        )
        for ranking in report.rankings
    ]
    pictures = dict(zip(_file_names(report.rankings), (plot.png for plot in scatters), strict=True))
    sections = [_agreement_section(report.rankings), _scatter_section(report.rankings, pictures)]
    if report.cost:
        pictures["throughput.png"] = throughput(
            [cost.name for cost in report.cost],
            [cost.per_minute for cost in report.cost],
            [cost.seconds for cost in report.cost],
        )
        sections.append(_cost_section(report.cost, pictures["throughput.png"]))
    sections += [_unscored_section(report.unscored), _provenance_section(report.provenance)]
    page = fill_page(report.title, report.summary, sections, _points(report.rankings, scatters))
    write_files(folder, {**pictures, "index.html": page.encode()})
    return folder / "index.html"


def _file_names(rankings: Iterable[Ranking]) -> list[str]:
    """One file name for each scatter plot, distinct and free of signs that a file system minds."""
    names: list[str] = []
    for ranking in rankings:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{ranking.scorer}-{ranking.agreement.truth}").strip("-.")[:100]
        name, number = f"scatter-{stem}.png", 2
        while name.lower() in map(str.lower, names):
            name, number = f"scatter-{stem}-{number}.png", number + 1
        names.append(name)
    return names


def _points(rankings: Sequence[Ranking], scatters: Sequence[Scatter]) -> str:
    """JSON for hovering, with equal lists of labels stored once and no way to end the script element."""
    labels: dict[tuple[str, ...], int] = {}
    plots = [
        {
            "scorer": ranking.scorer,
            "truth": ranking.agreement.truth,
            "labels": labels.setdefault(tuple(ranking.labels), len(labels)),
            "x": [_rounded(value, ".0f") for value in plot.x],
            "y": [_rounded(value, ".0f") for value in plot.y],
            "scores": [_rounded(value, ".6g") for value in ranking.scores],
            "truths": [_rounded(value, ".6g") for value in ranking.truth],
        }
        for ranking, plot in zip(rankings, scatters, strict=True)
    ]
    text = json.dumps({"labels": list(labels), "plots": plots}, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _rounded(value: float, digits: str) -> float | int | None:
    """The value as few characters of JSON, None where it is not finite."""
    if not math.isfinite(value):
        return None
    rounded = float(format(value, digits))
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _agreement_section(rankings: Iterable[Ranking]) -> str:
    """The table of agreements, with the columns of the other tables."""
    heads = [Head(column.head, column.help, column.is_text) for column in COLUMNS]
    rows = [[column.text(ranking.agreement) for column in COLUMNS] for ranking in rankings]
    text = "In brackets the 95 % bootstrap interval. Correlations keep their sign: below 0 is worse than chance."
    return section("How well each ranking agrees with trained accuracy", table(heads, rows), note(text))


def _scatter_section(rankings: Sequence[Ranking], pictures: Mapping[str, bytes]) -> str:
    """One picture for each ranking; the script adds the text of the architecture under the pointer."""
    figures = []
    for number, (ranking, (name, png)) in enumerate(zip(rankings, pictures.items(), strict=True)):
        caption = f"{ranking.scorer} against {ranking.agreement.truth}"
        figures.append(
            f'<figure><div class="frame" data-plot="{number}">{image(png, caption)}'
            '<span class="ring" hidden></span><div class="tip" hidden></div></div>'
            f"<figcaption>{escape(caption)}. Also in {escape(name)}.</figcaption></figure>"
        )
    text = "Point at a dot, or tap it, to see its architecture."
    return section("Score against accuracy", note(text), f'<div class="plots">{"".join(figures)}</div>')


def _cost_section(cost: Sequence[Cost], png: bytes) -> str:
    """Throughput and wall clock as picture and table."""
    heads = [
        Head("Ranking", is_text=True),
        Head("Architectures"),
        Head("Wall clock (s)", "Everything from start to end, building and copying included."),
        Head("A minute", "Architectures divided by minutes of wall clock."),
        Head("Note", is_text=True),
    ]
    rows = [
        (row.name, f"{row.architectures:,}", short_number(row.seconds), short_number(row.per_minute), row.note)
        for row in cost
    ]
    picture = f'<figure><div class="frame">{image(png, "Architectures a minute and wall clock")}</div></figure>'
    return section("What it cost", picture, table(heads, rows))


def _unscored_section(unscored: Mapping[str, Mapping[str, int]]) -> str:
    """Why architectures have no score, the most frequent reason first."""
    rows = [
        (scorer, reason, f"{count:,}")
        for scorer, reasons in unscored.items()
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    heads = [Head("Ranking", is_text=True), Head("Reason", is_text=True), Head("Architectures")]
    content = table(heads, rows) if rows else note("Every architecture has a score.")
    return section("Architectures without a score", content)


def _provenance_section(provenance: Mapping[str, str]) -> str:
    """What is needed to get the same figures again."""
    return section("How it was made", facts(provenance))
