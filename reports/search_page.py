"""The page of one differentiable search: what it found, what every epoch would have returned, and its collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.machine import versions
from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.search.stopping import CRITERIA, Stop, first_stop
from reports.cells import Drawn, draw_cell
from reports.html import Head, facts, fill_page, image, note, section, table, write_files
from reports.plots import png_bytes
from reports.search_figures import SearchTrace, draw_searches
from spaces.base import Architecture


@dataclass(frozen=True, eq=False)
class SearchReport:
    """A search to show: its context, epochs and answer, the answer parsed, and the commands around it.

    `accuracies` are those in percent of what some epochs derived, trained as `trained` says.
    """

    context: SearchContext
    epochs: Sequence[SearchEpoch]
    record: SearchRecord
    architecture: Architecture
    accuracies: Mapping[int, float]
    trained: str
    command: str
    next_command: str

    def stops(self) -> list[Stop]:
        """Where the criteria of DARTS+ hold first, and where the search's own rule stopped it, if another did."""
        stops = [stop for rule in CRITERIA if (stop := first_stop([rule], self.epochs))]
        own = Stop(self.record.rule, self.record.epoch, self.record.reason)
        return stops if any(stop.rule == own.rule for stop in stops) else [*stops, own]


def write_search_page(report: SearchReport, folder: Path) -> Path:
    """Write index.html, search.png and, of a cell that can be drawn, cell.png into a folder; returns the page.

    Raises:
        InputError: the folder cannot be written.
    """
    stops = report.stops()
    picture = draw_searches(
        [SearchTrace(f"seed {report.context.seed}", report.epochs, report.accuracies, stops)],
        accuracy_label="accuracy of the derived\nnetwork, %",
        shallowest=True,
    )
    files = {"search.png": picture}
    drawing = _drawing(report.architecture)
    if drawing:
        files["cell.png"] = drawing
    page = fill_page(
        f"Search {report.context.method} on {report.context.space}",
        f"{report.record.rule}, epoch {report.record.epoch}: {report.record.reason}.",
        [_found(report, drawing), _by_epoch(report, picture, stops), _made(report)],
    )
    write_files(folder, {**files, "index.html": page.encode()})
    return folder / "index.html"


def _drawing(architecture: Architecture) -> bytes | None:
    if not isinstance(architecture, Drawn):
        return None
    return png_bytes(draw_cell(architecture))


def _found(report: SearchReport, drawing: bytes | None) -> str:
    record = report.record
    named = {
        "architecture": record.architecture,
        "rule": record.rule,
        "epoch": str(record.epoch),
        "reason": record.reason,
        "seconds": f"{record.seconds:.1f} of wall clock",
        "train it": report.next_command,
    }
    cell = f'<figure><div class="frame">{image(drawing, "the cell found")}</div></figure>' if drawing else ""
    return section("What it found", facts(named), cell)


def _by_epoch(report: SearchReport, picture: bytes, stops: Sequence[Stop]) -> str:
    heads = (
        Head("Epoch"),
        Head("Skips", "Skip-connections of the derived normal cell."),
        Head("Training loss", "Of the supernet, in nats."),
        Head("Validation loss", "Of the supernet, in nats."),
        Head("Accuracy", f"Test accuracy in percent of the derived network, {report.trained}."),
        Head("Stop", "Rules that hold here first.", True),
        Head("Derived", is_text=True),
    )
    rows = [
        (
            str(epoch.epoch),
            str(epoch.skips),
            f"{epoch.train_loss:.3f}",
            f"{epoch.validation_loss:.3f}",
            f"{report.accuracies[epoch.epoch]:.2f}" if epoch.epoch in report.accuracies else "",
            ", ".join(stop.rule for stop in stops if stop.epoch == epoch.epoch),
            epoch.architecture,
        )
        for epoch in report.epochs
    ]
    explained = (
        f"Accuracies are test accuracies of derived networks, {report.trained}; the losses are the supernet's."
        if report.accuracies
        else "No derived network was trained: --evaluate N trains those of N epochs. Losses are the supernet's."
    )
    described = "accuracy, skip-connections and alphas by epoch"
    figure = f'<figure><div class="frame">{image(picture, described)}</div></figure>'
    return section("What every epoch would have returned", note(explained), figure, table(heads, rows))


def _made(report: SearchReport) -> str:
    context = report.context
    named = {
        "command": report.command,
        "recipe": context.recipe,
        "space": f"{context.space}, {context.settings}",
        "data": f"{context.dataset}, fingerprint {context.data}",
        "seed": str(context.seed),
        "device": context.device,
        "versions": versions(),
    }
    return section("How it was made", facts(named))
