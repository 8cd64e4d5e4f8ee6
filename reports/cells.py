"""Drawings of cells: nodes from left to right, every edge with its operation on a label of its own.

Labels and long edges take part in the layout as nodes do: each has a place in its column that nothing else
shares, so that nothing is drawn over a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from scipy.optimize import isotonic_regression

from reports.plots import ACCENT, INK, LINE, QUIET
from spaces.darts.genotype import NONE as NO_EDGE
from spaces.darts.genotype import OUTPUT, Genotype, edges_into
from spaces.darts_rnn.genotype import NODES, RecurrentGenotype
from spaces.nasbench201.cell import EDGES, NONE, OUTPUT_NODE
from spaces.nasbench201.cell import Cell as NASBench201Cell

COLUMN_WIDTH, ROW_HEIGHT = 1.25, 0.4
"""Inches from one column to the next, and from one place of a column to the next."""

HALF_NODE, HALF_LABEL = 0.26, 0.38
"""Half the width of the widest node and label, in columns: lines are level so far to both sides."""

SWEEPS = 8
"""Passes that order each column by what it is joined to; more changed no drawing of ours."""


@dataclass(frozen=True)
class CellGraph:
    """A cell to draw: nodes in order of computation, edges (source, target, operation); "" is a bare line."""

    title: str
    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]


Drawn = Genotype | NASBench201Cell | RecurrentGenotype
"""Architectures whose cells can be drawn."""


def draw_cell(architecture: Drawn) -> Figure:
    """The cells of an architecture, one above the other; edges that carry `none` are not there."""
    graphs = cell_graphs(architecture)
    layouts = [_layout(graph) for graph in graphs]
    heights = [layout.height * ROW_HEIGHT + 0.5 for layout in layouts]
    width = max(layout.width for layout in layouts) * COLUMN_WIDTH + 0.3
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    panels = figure.subplots(len(graphs), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, graph, layout in zip(panels, graphs, layouts, strict=True):
        _draw(axes, graph, layout)
    return figure


def cell_graphs(architecture: Drawn) -> list[CellGraph]:
    """Graphs of the cells of an architecture, `none` left out."""
    if isinstance(architecture, RecurrentGenotype):
        return [_recurrent_graph(architecture)]
    if isinstance(architecture, NASBench201Cell):
        names = ("input", *map(str, range(1, OUTPUT_NODE)), "output")
        edges = [
            (names[source], names[target], operation)
            for (source, target), operation in zip(EDGES, architecture.operations, strict=True)
            if operation != NONE
        ]
        return [CellGraph("cell", names, tuple(edges))]
    inputs = ("$c_{k-2}$", "$c_{k-1}$")
    names = (*inputs, *(str(node) for node in OUTPUT), "$c_k$")
    graphs = []
    for kind, cell in architecture.cells().items():
        edges = [
            (names[source], names[node], operation)
            for node, incoming in edges_into(cell)
            for operation, source in incoming
            if operation != NO_EDGE
        ]
        edges += [(names[node], names[-1], "") for node in OUTPUT]
        graphs.append(CellGraph({"normal": "normal cell", "reduce": "reduction cell"}[kind], names, tuple(edges)))
    return graphs


def _recurrent_graph(genotype: RecurrentGenotype) -> CellGraph:
    """Node 0 reads the token and the state before it; the mean of all other nodes is the state after it."""
    inputs, nodes, state = ("$x_t$", "$h_{t-1}$"), [str(node) for node in range(NODES + 1)], "$h_t$"
    edges = [(name, nodes[0], "") for name in inputs]
    edges += [
        (nodes[predecessor], name, activation)
        for name, (activation, predecessor) in zip(nodes[1:], genotype.recurrent, strict=True)
    ]
    edges += [(name, state, "") for name in nodes[1:]]
    return CellGraph("recurrent cell", (*inputs, *nodes, state), tuple(edges))


class _Stop(NamedTuple):
    """A place that an edge passes on its way: its label or a bend. `edge` is its place among the edges."""

    edge: int
    column: int


_Item = str | _Stop


@dataclass(frozen=True)
class _Layout:
    """Position (column, row) of every node and stop, and the stops of every edge from left to right."""

    positions: Mapping[_Item, tuple[float, float]]
    routes: Sequence[Sequence[_Stop]]

    @property
    def width(self) -> float:
        return max(column for column, _ in self.positions.values()) + 1

    @property
    def rows(self) -> tuple[float, float]:
        """The first and the last."""
        rows = [row for _, row in self.positions.values()]
        return min(rows), max(rows)

    @property
    def height(self) -> float:
        top, bottom = self.rows
        return bottom - top + 1


def _layout(graph: CellGraph) -> _Layout:
    """Nodes in even columns by their longest path, the rest between them, crossings few."""
    columns = _node_columns(graph)
    routes = [
        [_Stop(index, column) for column in range(columns[source] + 1, columns[target])]
        for index, (source, target, _) in enumerate(graph.edges)
    ]
    neighbours: dict[_Item, list[_Item]] = {name: [] for name in graph.nodes}
    members: list[list[_Item]] = [[] for _ in range(max(columns.values()) + 1)]
    for name in graph.nodes:
        members[columns[name]].append(name)
    for (source, target, _), route in zip(graph.edges, routes, strict=True):
        chain: list[_Item] = [source, *route, target]
        for stop in route:
            members[stop.column].append(stop)
        for left, right in pairwise(chain):
            neighbours.setdefault(left, []).append(right)
            neighbours.setdefault(right, []).append(left)
    rows = _rows(members, neighbours)
    return _Layout({item: (column, rows[item]) for column, items in enumerate(members) for item in items}, routes)


def _node_columns(graph: CellGraph) -> dict[str, int]:
    """Twice the length of the longest path to a node; the last node stands right of all others."""
    columns: dict[str, int] = {}
    for name in graph.nodes:
        columns[name] = max(
            (columns[source] + 2 for source, target, _ in graph.edges if target == name), default=0
        )
    *others, last = graph.nodes
    columns[last] = max(columns[name] for name in others) + 2
    return columns


def _rows(members: list[list[_Item]], neighbours: Mapping[_Item, Sequence[_Item]]) -> dict[_Item, float]:
    """Row of every item: each column is ordered and placed by the mean row of what it is joined to."""
    rows = {item: place - (len(items) - 1) / 2 for items in members for place, item in enumerate(items)}
    for sweep in range(SWEEPS):
        for items in members if sweep % 2 == 0 else reversed(members):
            wanted = {item: _mean([rows[other] for other in neighbours[item]] or [rows[item]]) for item in items}
            items.sort(key=wanted.__getitem__)
            places = np.arange(len(items))
            # The rows closest to the wanted ones that lie at least one apart.
            slack = isotonic_regression(np.array([wanted[item] for item in items]) - places).x
            rows.update(zip(items, (slack + places).tolist(), strict=True))
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _draw(axes: Axes, graph: CellGraph, layout: _Layout) -> None:
    axes.set_axis_off()
    axes.set_xlim(-0.5, layout.width - 0.5)
    top, bottom = layout.rows
    axes.set_ylim(bottom + 0.5, top - 0.5)
    axes.set_title(graph.title, loc="left", size=10, weight="bold", color=INK)
    for (source, target, operation), route in zip(graph.edges, layout.routes, strict=True):
        _draw_edge(axes, layout, source, route, target, operation)
    for name in graph.nodes:
        column, row = layout.positions[name]
        axes.text(
            column,
            row,
            name,
            size=9,
            color="white",
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.35", "facecolor": ACCENT, "edgecolor": "none"},
        )


def _draw_edge(
    axes: Axes, layout: _Layout, source: str, route: Sequence[_Stop], target: str, operation: str
) -> None:
    """A line through the stops of an edge, level at each; its operation stands at the last stop."""
    points, codes = [layout.positions[source]], [Path.MOVETO]
    items: list[_Item] = [source, *route, target]
    for left, right in pairwise(items):
        (start, y), (end, row) = layout.positions[left], layout.positions[right]
        start, end = start + _half(left), end - _half(right)
        bend = (start + end) / 2
        points += [(start, y), (bend, y), (bend, row), (end, row)]
        codes += [Path.LINETO, *[Path.CURVE4] * 3]
    points.append(layout.positions[target])
    codes.append(Path.LINETO)
    axes.add_patch(PathPatch(Path(points, codes), facecolor="none", edgecolor=QUIET if operation else LINE))
    if operation:
        column, row = layout.positions[route[-1]]
        axes.text(
            column,
            row,
            operation,
            size=8,
            color=INK,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": LINE},
        )


def _half(item: _Item) -> float:
    """Odd columns hold labels, even ones nodes."""
    return HALF_LABEL if isinstance(item, _Stop) and item.column % 2 else HALF_NODE
