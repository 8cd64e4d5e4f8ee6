"""Drawings of hierarchical genotypes: every motif of every level, its operations by colour."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from reports.plots import DOTS_PER_INCH, INK, QUIET
from spaces.hierarchical.genotype import PRIMITIVES, Genotype, Motif, Operation, level_name

COLOURS = ("#9aa5b1", "#d1495b", "#2e86ab", "#edae49", "#2f9e62", "#7b4fa3", "#c06c2f", "#00798c", "#5c6b2f")
"""Told apart by lightness as well as by hue; an operation of a higher index takes them again from the start."""

BEND = 0.5
"""An arc's height as a share of half its length."""

WIDTH_INCHES = 8.0
PANELS_ACROSS = 3
EDGE_INCHES = 0.12
"""Around each panel, or the titles of the first row would be cut off."""


def draw_genotype(genotype: Genotype) -> Figure:
    """A band a level, the cell last: nodes from source to sink, an arc for each edge; dead edges are dotted.

    The colour of an arc is its operation: a primitive, or the motif of that number in the band above.
    """
    shapes = [_panels(motifs) for motifs in genotype.levels]
    heights = [
        rows * _height(WIDTH_INCHES / across, motifs[0].nodes) + 0.3
        for (rows, across), motifs in zip(shapes, genotype.levels, strict=True)
    ]
    layout = ConstrainedLayoutEngine(h_pad=EDGE_INCHES)
    figure = Figure((WIDTH_INCHES, sum(heights)), dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    bands = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    operations: list[Operation] = list(PRIMITIVES)
    for index, (band, motifs) in enumerate(zip(bands, genotype.levels, strict=True)):
        colours = {operation: COLOURS[at % len(COLOURS)] for at, operation in enumerate(operations)}
        panels = band.subplots(*shapes[index], squeeze=False).ravel()
        for axes in panels:
            axes.axis("off")
        for number, (axes, motif) in enumerate(zip(panels, motifs, strict=False)):
            _draw_motif(axes, motif, colours)
            axes.set_title(f"{level_name(index)}, motif {number}".replace("_", " "), size=8, color=INK)
        band.legend(
            handles=[Line2D([], [], color=colour, lw=2) for colour in colours.values()],
            labels=[name if isinstance(name, str) else f"motif {name}" for name in operations],
            loc="outside lower center",
            ncols=PANELS_ACROSS * 2,
            fontsize=7,
            labelcolor=QUIET,
            frameon=False,
        )
        operations = list(range(len(motifs)))
    return figure


def _panels(motifs: Sequence[Motif]) -> tuple[int, int]:
    """Rows and columns of the motifs of a level."""
    across = min(PANELS_ACROSS, len(motifs))
    return -(-len(motifs) // across), across


def _height(width: float, nodes: int) -> float:
    """Inches that a motif's arcs need, above and below, where its nodes take `width`; and its title."""
    return width / nodes * (2 * BEND * (nodes - 1) / 2 + 0.5) + 0.25


def _draw_motif(axes: Axes, motif: Motif, colours: dict[Operation, str]) -> None:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(motif.nodes))
    graph.add_edges_from((edge.source, edge.target, {"operation": edge.operation}) for edge in motif.edges)
    live = {(edge.source, edge.target) for edge in motif.live_edges}
    for source, target, operation in graph.edges(data="operation"):
        # Edges that jump an even number of nodes go above, the others below: long arcs enclose short ones.
        length = target - source
        bend = 0.0 if length == 1 else (-BEND if length % 2 == 0 else BEND)
        axes.add_patch(
            FancyArrowPatch(
                (source, 0),
                (target, 0),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=8,
                shrinkA=6,
                shrinkB=6,
                lw=1.6,
                color=colours[operation],
                linestyle="solid" if (source, target) in live else "dotted",
            )
        )
    nx.draw_networkx_nodes(
        graph,
        {node: (node, 0) for node in graph},
        ax=axes,
        node_size=110,
        node_color="white",
        edgecolors=INK,
        linewidths=1.0,
    )
    for node in graph:
        axes.text(node, 0, str(node), size=6.5, color=INK, ha="center", va="center")
    axes.set_xlim(-0.4, motif.nodes - 0.6)
    highest = BEND * (motif.nodes - 1) / 2 + 0.25
    axes.set_ylim(-highest, highest)
    axes.set_aspect("equal")
