"""Pictures of a report as PNG: score against truth, and what the scores cost."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.ndimage import gaussian_filter

from reports.statistics import Agreement, Floats

INK, QUIET, LINE, ACCENT = "#1f2933", "#66727f", "#d5dbe1", "#1f6f9f"
# one hue from light to dark: read by lightness alone, so no kind of colour vision is left out
DENSITY = LinearSegmentedColormap.from_list("density", ["#9cc9de", "#4f9bc4", ACCENT, "#123f63", "#0b2239"])
DOTS_PER_INCH = 200
PERCENT = re.compile(r"(?P<split>val|test)_(?P<dataset>[^_]+)(_(?P<epochs>\d+)ep)?")
FEW = 200  # points that need no shading by density
GRID = (360, 260)  # cells across and up in which density is counted
TAIL = 0.1  # share of an axis that far-away values are squeezed into


@dataclass(frozen=True)
class Scatter:
    """A scatter plot and where its points are, for hovering."""

    png: bytes
    x: list[float]
    """Pixels from the left edge of the PNG, one for each architecture given, NaN where it has no point."""
    y: list[float]
    """Pixels from the top edge."""


MILLION = 1e6

COUNTS = {"params": "parameters", "flops": "FLOPs"}
"""Rankings that are counts of a network, as an axis names them."""


def scatter(scores: Floats, truth: Floats, *, scorer: str, truth_name: str, agreement: Agreement) -> Scatter:
    """Score against truth, both float64 [n], NaN for none; one point for each pair, darker where they crowd.

    Values far outside the bulk (networks at chance level) are squeezed into a marked strip at the end of their
    axis, so that the bulk stays readable; a score that spans decades gets a logarithmic axis.
    """
    drawn = np.isfinite(scores) & np.isfinite(truth)
    figure = new_figure(height=4.4)
    axes = figure.add_axes((0.115, 0.13, 0.855, 0.725))
    calm(axes)
    title = f"{scorer} on {agreement.n:,} architectures: Kendall {agreement.kendall}"
    below = f"Spearman {agreement.spearman}, Pearson {agreement.pearson}"
    if agreement.unscored:
        below += f"; {agreement.unscored:,} without a score have no point"
    fit(figure.text(0.02, 0.945, title, size=12, weight="bold", color=INK, parse_math=False))
    fit(figure.text(0.02, 0.898, below, size=8.5, color=QUIET))
    if np.count_nonzero(drawn) > FEW:
        figure.text(0.97, 0.03, "darker: more architectures", size=7.5, color=QUIET, ha="right")
    x_label = axis_label(scorer, scores[drawn], otherwise=COUNTS.get(scorer, f"{scorer} score"))
    y_label = axis_label(truth_name, truth[drawn], otherwise=truth_name)
    fit(axes.set_xlabel(x_label, loc="left", parse_math=False))
    fit(axes.set_ylabel(y_label, parse_math=False))
    x, y = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    if drawn.any():
        _scale(axes, "x", scores[drawn])
        _scale(axes, "y", truth[drawn])
        x[drawn], y[drawn] = _draw_points(axes, scores[drawn], truth[drawn])
    height = figure.get_figheight() * DOTS_PER_INCH
    return Scatter(png_bytes(figure), x.tolist(), (height - y).tolist())


def throughput(names: Sequence[str], per_minute: Sequence[float], seconds: Sequence[float]) -> bytes:
    """Architectures a minute and wall-clock seconds of each named ranking, on logarithmic axes, as PNG."""
    figure = new_figure(height=0.75 + 0.28 * len(names))
    figure.set_layout_engine("constrained", wspace=0.08)
    panels = figure.subplots(1, 2, sharey=True)
    shown = [name if len(name) <= 36 else f"{name[:35]}…" for name in names]
    for axes, title, values in zip(
        panels, ("Architectures a minute", "Wall clock (seconds)"), (per_minute, seconds), strict=True
    ):
        calm(axes)
        axes.grid(axis="y", visible=False)
        axes.set_title(title, loc="left", size=9.5, weight="bold", color=INK)
        positive = [value for value in values if value > 0] or [1.0]
        decades = math.log10(max(positive) / min(positive)) + 1
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 10 ** (0.1 * decades), max(positive) * 10 ** (0.35 * decades))
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), shown, parse_math=False)
        for row, value in enumerate(values):
            if value > 0:
                axes.plot(value, row, "o", color=ACCENT, markersize=6)
                axes.annotate(
                    short_number(value),
                    (value, row),
                    (7, 0),
                    textcoords="offset points",
                    va="center",
                    size=8.5,
                    color=INK,
                )
    return png_bytes(figure)


def short_number(value: float) -> str:
    """A figure to three digits or whole: 0.42, 73.8, 2,110, 2.5M, 1e+12."""
    if MILLION <= abs(value) < 1000 * MILLION:
        return f"{value / MILLION:.3g}M"
    return f"{value:,.0f}" if 100 <= abs(value) < MILLION else f"{value:.3g}"


def new_figure(height: float) -> Figure:
    """An empty white figure, 6.4 inches wide."""
    figure = Figure(figsize=(6.4, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def fit(text: Text) -> None:
    """Make a line of text smaller where it would run out of the figure, to the right or, turned, upwards."""
    figure = cast(Figure, text.figure)
    extent = text.get_window_extent()
    if text.get_rotation():
        share = 0.75 * figure.bbox.height / extent.height
    else:
        share = (0.96 * figure.bbox.width - extent.x0) / extent.width
    text.set_fontsize(float(text.get_fontsize()) * min(1, share))


def calm(axes: Axes) -> None:
    """No box, a faint grid behind the points, quiet labels."""
    axes.set_axisbelow(True)
    axes.grid(color=LINE, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(which="both", length=0, labelsize=9, labelcolor=QUIET)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(size=10, color=INK)


def axis_label(column: str, values: Floats, otherwise: str) -> str:
    """What an axis shows: columns such as ``test_cifar10_200ep`` are spelt out, with the unit they have here."""
    parts = PERCENT.fullmatch(column)
    if not parts or not len(values) or values.max() <= 1:
        return otherwise
    split = {"val": "validation", "test": "test"}[parts["split"]]
    epochs = f", {parts['epochs']} epochs" if parts["epochs"] else ""
    return f"{parts['dataset']} {split} accuracy{epochs} (%)"


def _scale(axes: Axes, side: str, values: Floats) -> None:
    """Set scale, limits and ticks of axis ``side`` ("x" or "y") so that most of the values are readable."""
    set_scale: Callable[..., None] = getattr(axes, f"set_{side}scale")
    set_limits: Callable[..., object] = getattr(axes, f"set_{side}lim")
    axis = axes.xaxis if side == "x" else axes.yaxis
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 1000 * low:
        set_scale("log")
        margin = (high / low) ** 0.03
        set_limits(low / margin, high * margin)
        return
    bottom, top = _bulk(values)
    margin = 0.04 * (top - bottom) or 0.5
    anchors = [(bottom - margin, 0.0), (top + margin, 1.0)]
    if bottom > low:
        anchors[0] = (bottom, TAIL)
        anchors.insert(0, (low - 0.2 * (bottom - low), 0.0))
    if top < high:
        anchors[-1] = (top, 1 - TAIL)
        anchors.append((high + 0.2 * (high - top), 1.0))
    data, share = (np.array(column) for column in zip(*anchors, strict=True))
    set_limits(data[0], data[-1])
    if len(anchors) > 2:
        set_scale(
            "function",
            functions=(lambda v: np.interp(v, data, share), lambda v: np.interp(v, share, data)),
        )
        for edge, word in ((bottom, "below"), (top, "above")):
            if low < edge < high:
                _mark_tail(axes, side, edge, word)
    ticks = [
        tick for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top) if bottom <= tick <= top
    ]
    labels = [f"{tick:,.6g}" if top < MILLION else short_number(tick) for tick in ticks]
    tails = [value for value, edge in ((low, bottom), (high, top)) if value != edge]
    axis.set_ticks(ticks + tails, labels + [short_number(value) for value in tails])


def _mark_tail(axes: Axes, side: str, edge: float, word: str) -> None:
    """A dotted line where the axis begins to be squeezed, and a word that says so."""
    line: dict[str, Any] = {"color": QUIET, "linewidth": 0.8, "linestyle": (0, (2, 2))}
    note: dict[str, Any] = {"size": 7, "color": QUIET, "textcoords": "offset points"}
    text = f"squeezed {word} {short_number(edge)}"
    below = word == "below"
    offset = -3 if below else 3
    if side == "x":
        axes.axvline(edge, **line)
        across = axes.get_xaxis_transform()
        note |= {"rotation": 90, "va": "top", "ha": "right" if below else "left"}
        axes.annotate(text, (edge, 1), (offset, 0), xycoords=across, **note)
    else:
        axes.axhline(edge, **line)
        across = axes.get_yaxis_transform()
        note |= {"ha": "right", "va": "top" if below else "bottom"}
        axes.annotate(text, (1, edge), (0, offset), xycoords=across, **note)


def _bulk(values: Floats) -> tuple[float, float]:
    """Range without the far tails; a tail is cut only where that at least halves the range.

    A value is far where it lies three times the distance between the quartiles outside them (Tukey's far-out
    points).
    """
    low, first, third, high = np.percentile(values, (0, 25, 75, 100))
    reach = 3 * (third - first)
    near = values[(values >= first - reach) & (values <= third + reach)]
    margin = 0.02 * (near.max() - near.min())
    bottom, top = max(low, near.min() - margin), min(high, near.max() + margin)
    if reach == 0 or high - low < 2 * (top - bottom):
        return float(low), float(high)
    return float(bottom), float(top)


def _draw_points(axes: Axes, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Draw the points, the crowded ones last and darkest; returns their display positions from bottom left."""
    pixels = axes.transData.transform(np.column_stack([x, y]))
    inside = axes.transAxes.inverted().transform(pixels)
    bins = tuple(np.clip((inside * GRID).astype(int), 0, np.array(GRID) - 1).T)
    histogram = np.zeros(GRID)
    np.add.at(histogram, bins, 1)
    density = np.log1p(gaussian_filter(histogram, 3, mode="constant")[bins] * 30)
    order = np.argsort(density, kind="stable")
    size = float(np.clip(4000 / len(x), 5, 26))
    axes.scatter(
        x[order],
        y[order],
        c=density[order] if len(x) > FEW else ACCENT,
        cmap=DENSITY if len(x) > FEW else None,
        s=size,
        alpha=0.85,
        linewidths=0,
    )
    return pixels[:, 0], pixels[:, 1]


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG at its own resolution, uncropped, so that pixel positions hold."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()
