"""Pictures of studies as PNG: kernels, boxes, curves with bands, and figures with intervals in a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.plots import ACCENT, INK, QUIET, calm, new_figure, png_bytes
from reports.statistics import Floats, Integers, Interval

COLOURS = (ACCENT, "#d1495b", "#2f9e62", "#edae49", "#7b4fa3", "#5c6b2f", "#0b2239", "#9aa5b1")
"""Told apart by lightness as well as by hue; a ninth series takes the first again."""

MARKS = "osD^vP"
ROW_INCHES = 0.3
LONG_NAME = 24
"""A series with a longer name has its legend above the picture."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A named series: y [n] at x [n], with a band from low to high where both are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    @staticmethod
    def of_intervals(name: str, x: Sequence[float], intervals: Sequence[Interval]) -> Curve:
        """A series of figures with intervals."""
        return Curve(
            name,
            x,
            [interval.value for interval in intervals],
            [interval.low for interval in intervals],
            [interval.high for interval in intervals],
        )


@dataclass(frozen=True)
class Level:
    """A named value that needs no x: a dashed line across."""

    name: str
    value: float


def curves(
    series: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    legend: bool = True,
    floor: float | None = None,
) -> bytes:
    """Lines over one axis with their bands; `floor` cuts the picture off below."""
    figure = new_figure(height=4.0)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    calm(axes)
    for number, curve in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        few = len(curve.x) <= 20
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linewidth=1.6,
            label=curve.name,
            marker=MARKS[number % len(MARKS)] if few else None,
            markersize=4,
        )
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left, right = axes.get_xlim()
    for number, level in enumerate(sorted(levels, key=lambda level: -level.value)):
        axes.axhline(level.value, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        # On the line, every second one further left, so that names of close lines can be read.
        axes.annotate(
            level.name,
            (right - (right - left) * (number % 2) / 3, level.value),
            ha="right",
            va="center",
            size=7.5,
            color=QUIET,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
        )
    if floor is not None:
        axes.set_ylim(bottom=floor)
    axes.set_xlabel(x_label, loc="left", color=INK)
    axes.set_ylabel(y_label, color=INK)
    if legend and len(series) > 1:
        if max(len(curve.name) for curve in series) > LONG_NAME:
            figure.legend(loc="outside upper left", frameon=False, fontsize=7.5, ncols=2)
        else:
            axes.legend(frameon=False, fontsize=8, ncols=1 + len(series) // 5)
    return png_bytes(figure)


def boxes(values: Floats, names: Sequence[str], *, x_label: str, y_label: str) -> bytes:
    """A box a column of values [draws, columns]: quartiles, whiskers to 1.5 times their distance, outliers."""
    figure = new_figure(height=3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    calm(axes)
    line = {"color": ACCENT, "linewidth": 1.1}
    axes.boxplot(
        values,
        widths=0.55,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": INK, "linewidth": 1.4},
        flierprops={"marker": "o", "markersize": 2.5, "markeredgecolor": QUIET},
    )
    axes.set_xticks(range(1, len(names) + 1), list(names), fontsize=7.5)
    axes.set_xlabel(x_label, loc="left", color=INK)
    axes.set_ylabel(y_label, color=INK)
    return png_bytes(figure)


def interval_rows(
    names: Sequence[str], groups: Sequence[tuple[str, Sequence[Interval]]], *, x_label: str
) -> bytes:
    """A row a name with one dot and interval for each (group, intervals); a line marks 0."""
    figure = new_figure(height=1.0 + ROW_INCHES * len(names) * max(1.0, 0.6 * len(groups)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    calm(axes)
    axes.grid(axis="y", visible=False)
    offsets = np.linspace(-0.22, 0.22, len(groups)) if len(groups) > 1 else np.zeros(1)
    for number, ((group, intervals), offset) in enumerate(zip(groups, offsets, strict=True)):
        value = np.array([interval.value for interval in intervals])
        ends = np.array([[interval.low, interval.high] for interval in intervals]).reshape(-1, 2)
        errors = np.abs(np.nan_to_num(ends - value[:, None])).T
        axes.errorbar(
            value,
            np.arange(len(names)) + offset,
            xerr=errors,
            fmt=MARKS[number % len(MARKS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            linewidth=1.2,
            label=group,
        )
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_yticks(range(len(names)), list(names), parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x_label, loc="left", color=INK)
    if len(groups) > 1:
        figure.legend(loc="outside upper left", frameon=False, fontsize=8.5, ncols=len(groups))
    return png_bytes(figure)


def kernel_grid(rows: Sequence[tuple[str, Sequence[tuple[str, Integers]]]]) -> bytes:
    """Kernels [B, B] over their diagonal: a row a group, each picture with its text above, one colour scale."""
    across = max(len(kernels) for _, kernels in rows)
    figure = new_figure(height=2.15 * len(rows))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(rows), across, squeeze=False)
    scaled = [[(text, kernel / kernel.diagonal().max()) for text, kernel in kernels] for _, kernels in rows]
    low = min(float(kernel.min()) for group in scaled for _, kernel in group)
    shown = None
    for (name, _), group, line in zip(rows, scaled, grid, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, (text, kernel) in zip(line, group, strict=False):
            shown = axes.imshow(kernel, cmap="viridis", vmin=low, vmax=1, interpolation="nearest")
            axes.set_title(text, size=8, color=QUIET)
        _name_row(line[0], name)
    if shown is not None:
        figure.colorbar(shown, ax=grid, shrink=0.6, label="share of ReLUs with equal codes")
    return png_bytes(figure)


def _name_row(axes: Axes, name: str) -> None:
    """A name turned upwards to the left of a row's first picture."""
    axes.annotate(
        name,
        (0, 0.5),
        (-12, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        rotation=90,
        ha="center",
        va="center",
        size=9,
        weight="bold",
        color=INK,
    )
