"""Paths out of a searched HyperCuboid: the longest in its graph, greedy from either end, and a beam.

As in sharpDARTS (cnn/multichannelnet_graph_operations.py), which reads them from a graph of networkx too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import numpy.typing as npt

Node = tuple[int, int]
"""Steps done, and the place of the width there."""

BEAM_WIDTH = 3


def path_graph(strengths: npt.NDArray[np.floating]) -> nx.DiGraph:
    """Nodes (step, width) and edges as strong as strengths [steps, widths in, widths out] say, none negative.

    Every edge weighs 1 more than its strength, so that a longest path begins at the stem and ends at the last
    step; as all such paths have the same number of edges, that changes no order.
    """
    graph = nx.DiGraph()
    steps, inputs, outputs = strengths.shape
    for step in range(steps):
        for source in range(inputs):
            for target in range(outputs):
                weight = 1 + float(strengths[step, source, target])
                graph.add_edge((step, source), (step + 1, target), weight=weight)
    return graph


def longest(graph: nx.DiGraph) -> list[Node]:
    """The path of the largest sum."""
    path: list[Node] = nx.dag_longest_path(graph, weight="weight")
    return path


def beam(graph: nx.DiGraph, width: int = BEAM_WIDTH) -> list[Node]:
    """Paths from the stem grown edge by edge, of which the `width` of the largest sum so far are kept."""
    kept: list[tuple[float, list[Node]]] = [(0.0, [node]) for node in graph if graph.in_degree(node) == 0]
    while graph.out_degree(kept[0][1][-1]):
        grown = [
            (total + edge["weight"], [*path, target])
            for total, path in kept
            for target, edge in graph[path[-1]].items()
        ]
        kept = sorted(grown, key=lambda entry: -entry[0])[:width]
    return kept[0][1]


def greedy_top_down(graph: nx.DiGraph) -> list[Node]:
    """The strongest edge of the first step, then always the strongest that leaves where the last one led."""
    return beam(graph, 1)


def greedy_bottom_up(graph: nx.DiGraph) -> list[Node]:
    """The same from the last step to the first."""
    return beam(graph.reverse(), 1)[::-1]


EXTRACTIONS: Mapping[str, Callable[[nx.DiGraph], list[Node]]] = {
    "longest": longest,
    "top-down": greedy_top_down,
    "bottom-up": greedy_bottom_up,
    "beam": beam,
}
"""By name; the first is the default."""
