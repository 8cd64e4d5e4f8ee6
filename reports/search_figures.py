"""Pictures of a differentiable search by epoch: accuracy of what it derives, skip-connections, weights, stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.search.records import SearchEpoch
from harness.search.stopping import Stop
from reports.plots import INK, QUIET, calm, new_figure, png_bytes
from reports.statistics import Floats
from reports.studies.figures import COLOURS

LEGEND_COLUMNS = 4
"""More names than this stand in two rows."""

STOP_MARKS = {"criterion 1": "o", "criterion *": "*"}
OTHER_MARK = "s"
"""Of stops by any other rule."""


@dataclass(frozen=True, eq=False)
class SearchTrace:
    """A search to draw: its epochs, accuracy in percent of what some of them derive, and where rules stop it."""

    name: str
    epochs: Sequence[SearchEpoch]
    accuracies: Mapping[int, float]
    stops: Sequence[Stop]

    def accuracy(self, epoch: int) -> float:
        """NaN where it is not known."""
        return self.accuracies.get(epoch, np.nan)


def operation_weights(epoch: SearchEpoch, *, shallowest: bool) -> Floats:
    """[operations]: softmax of the alphas of the first kind of cell.

    Of the first edge of its first cell with `shallowest`, else the mean over all edges.
    """
    alphas = np.asarray(next(iter(epoch.alphas.values())), np.float64).reshape(-1, len(epoch.operations))
    powers = np.exp(alphas - alphas.max(1, keepdims=True))
    weights = powers / powers.sum(1, keepdims=True)
    found: Floats = weights[0] if shallowest else weights.mean(0)
    return found


def draw_searches(traces: Sequence[SearchTrace], *, accuracy_label: str, shallowest: bool) -> bytes:
    """Three panels over the epochs: accuracy and skip-connections of each search, mean weights of all of them.

    A search has one colour in the first two panels, its stops are marked on its lines; the panel of accuracy is
    left out where none is known. `shallowest` is that of `operation_weights`.
    """
    known = any(trace.accuracies for trace in traces)
    figure = new_figure(height=7.2 if known else 5.0)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(3 if known else 2, 1, sharex=True)
    for axes in panels:
        calm(axes)
    *accuracy, skips, weights = panels
    for number, trace in enumerate(traces):
        colour = COLOURS[number % len(COLOURS)]
        counts = {epoch.epoch: float(epoch.skips) for epoch in trace.epochs}
        # Seeds that agree would hide each other, so lines stand a little apart.
        apart = 0.06 * (number - (len(traces) - 1) / 2)
        _line(skips, trace, {epoch: count + apart for epoch, count in counts.items()}, colour)
        if accuracy:
            _line(accuracy[0], trace, trace.accuracies, colour)
    if accuracy:
        accuracy[0].set_ylabel(accuracy_label, color=INK)
    skips.set_ylabel("skip-connections derived", color=INK)
    skips.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(panels[0], traces)
    _weights(weights, traces, shallowest=shallowest)
    weights.set_xlabel("epoch", loc="left", color=INK)
    return png_bytes(figure)


def _line(axes: Axes, trace: SearchTrace, values: Mapping[int, float], colour: str) -> None:
    epochs = sorted(values)
    few = len(epochs) < len(trace.epochs)
    axes.plot(
        epochs, [values[epoch] for epoch in epochs], color=colour, linewidth=1.4, marker="." if few else None
    )
    for stop in trace.stops:
        if stop.epoch in values:
            mark = STOP_MARKS.get(stop.rule, OTHER_MARK)
            axes.plot(
                stop.epoch,
                values[stop.epoch],
                mark,
                color=colour,
                markersize=12 if mark == "*" else 8,
                markeredgecolor=INK,
                zorder=3,
            )
        else:
            axes.axvline(stop.epoch, color=colour, linewidth=0.9, linestyle=(0, (4, 3)))


def _legend(axes: Axes, traces: Sequence[SearchTrace]) -> None:
    """Colours of the searches and marks of the rules that stopped any."""
    handles = [
        Line2D([], [], color=COLOURS[number % len(COLOURS)], label=trace.name)
        for number, trace in enumerate(traces)
    ]
    for rule in dict.fromkeys(stop.rule for trace in traces for stop in trace.stops):
        mark = STOP_MARKS.get(rule, OTHER_MARK)
        handles.append(Line2D([], [], color=QUIET, marker=mark, linestyle="none", label=f"stop by {rule}"))
    _legend_above(axes, handles)


def _legend_above(axes: Axes, handles: Sequence[Line2D]) -> None:
    columns = len(handles) if len(handles) <= LEGEND_COLUMNS else -(-len(handles) // 2)
    axes.legend(
        handles=list(handles), frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns
    )


def _weights(axes: Axes, traces: Sequence[SearchTrace], *, shallowest: bool) -> None:
    operations = traces[0].epochs[0].operations
    length = min(len(trace.epochs) for trace in traces)
    values = np.mean(
        [[operation_weights(epoch, shallowest=shallowest) for epoch in trace.epochs[:length]] for trace in traces],
        0,
    )
    epochs = [epoch.epoch for epoch in traces[0].epochs[:length]]
    lines = [
        axes.plot(epochs, values[:, column], color=COLOURS[column % len(COLOURS)], linewidth=1.4, label=operation)[
            0
        ]
        for column, operation in enumerate(operations)
    ]
    where = "shallowest edge" if shallowest else "mean over edges"
    axes.set_ylabel(f"softmax of the alphas,\n{where}", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes, lines)
