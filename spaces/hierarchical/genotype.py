"""A hierarchical genotype: motifs whose edges carry motifs of the level below (Liu et al., ICLR 2018)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from spaces.errors import InputError

IDENTITY, CONV_1X1, DEPTHWISE_3X3, SEPARABLE_3X3 = "identity", "conv_1x1", "depthwise_3x3", "separable_3x3"
MAX_POOL_3X3, AVG_POOL_3X3 = "max_pool_3x3", "avg_pool_3x3"
PRIMITIVES = (IDENTITY, CONV_1X1, DEPTHWISE_3X3, SEPARABLE_3X3, MAX_POOL_3X3, AVG_POOL_3X3)

Operation = str | int
"""A primitive by name (edges of level 2), or a motif of the level below by its index (higher levels)."""


class Level(NamedTuple):
    """How many motifs a level has, and the number of nodes of each."""

    motifs: int
    nodes: int


class Edge(NamedTuple):
    """An operation from a node to a later one."""

    source: int
    target: int
    operation: Operation


@dataclass(frozen=True, order=True)
class Motif:
    """A graph of `nodes` nodes: 0 is the source, the last the sink; edges sorted by target, then source."""

    nodes: int
    edges: tuple[Edge, ...]

    @property
    def live_edges(self) -> tuple[Edge, ...]:
        """Edges on a path from source to sink; none where the sink is not reached."""
        reached = {0}
        for edge in self.edges:
            if edge.source in reached:
                reached.add(edge.target)
        needed = {self.nodes - 1}
        for edge in reversed(self.edges):
            if edge.target in needed and edge.source in reached:
                needed.add(edge.source)
        return tuple(edge for edge in self.edges if edge.source in reached and edge.target in needed)


def make_motif(nodes: int, edges: Sequence[Edge]) -> Motif:
    """Motif of these edges, sorted: an edge is decided before every edge that starts where it ends."""
    return Motif(nodes, tuple(sorted(edges, key=lambda edge: (edge.target, edge.source))))


def chain(nodes: int, operation: Operation) -> Motif:
    """One operation after the other, through all nodes."""
    return make_motif(nodes, [Edge(node, node + 1, operation) for node in range(nodes - 1)])


@dataclass(frozen=True, order=True)
class Genotype:
    """The motifs of levels 2, 3, ... The last level has one, the cell; its text is JSON.

    `{"level_2": [[[0, 1, "identity"], ...], ...], "level_3": [[[0, 1, 5], ...]]}`: an edge is [source, target,
    operation].
    """

    levels: tuple[tuple[Motif, ...], ...]

    @property
    def cell(self) -> Motif:
        """The motif of the last level."""
        return self.levels[-1][0]

    def __str__(self) -> str:
        return json.dumps(
            {level_name(index): [motif.edges for motif in motifs] for index, motifs in enumerate(self.levels)}
        )


def level_name(index: int) -> str:
    """Key of the text for `Genotype.levels[index]`: levels are counted from 1, the primitives."""
    return f"level_{index + 2}"


def operations_of(index: int, levels: Sequence[Level]) -> tuple[Operation, ...]:
    """What an edge of `levels[index]` may carry."""
    return PRIMITIVES if index == 0 else tuple(range(levels[index - 1].motifs))


EVOLVED_CELL = (
    '{"level_2": [[[0, 1, "max_pool_3x3"], [0, 2, "conv_1x1"], [1, 2, "depthwise_3x3"], [0, 3, "separable_3x3"], '
    '[1, 3, "conv_1x1"], [2, 3, "max_pool_3x3"]], [[0, 1, "max_pool_3x3"], [0, 2, "depthwise_3x3"], '
    '[1, 2, "depthwise_3x3"], [0, 3, "conv_1x1"], [1, 3, "separable_3x3"], [2, 3, "separable_3x3"]], '
    '[[0, 1, "separable_3x3"], [0, 2, "depthwise_3x3"], [1, 2, "separable_3x3"], [0, 3, "separable_3x3"], '
    '[1, 3, "identity"], [2, 3, "avg_pool_3x3"]], [[0, 1, "avg_pool_3x3"], [0, 2, "separable_3x3"], '
    '[1, 2, "separable_3x3"], [0, 3, "identity"], [1, 3, "max_pool_3x3"], [2, 3, "avg_pool_3x3"]], '
    '[[0, 1, "identity"], [0, 2, "separable_3x3"], [1, 2, "identity"], [0, 3, "separable_3x3"], '
    '[1, 3, "identity"], [2, 3, "separable_3x3"]], [[0, 1, "depthwise_3x3"], [0, 2, "max_pool_3x3"], '
    '[1, 2, "max_pool_3x3"], [0, 3, "separable_3x3"], [1, 3, "identity"], [2, 3, "avg_pool_3x3"]]], '
    '"level_3": [[[0, 1, 4], [0, 2, 2], [1, 2, 2], [0, 3, 2], [1, 3, 0], [2, 3, 2], [0, 4, 3], [1, 4, 4], '
    "[2, 4, 4], [3, 4, 4]]]}"
)
"""The cell that the paper found, from its appendix as NASLib reads it (edges without a label are identities).

Its large network has 15,727,306 parameters; the paper prints 15.7M.
"""

NAMED = {"LIU_2018": EVOLVED_CELL}
"""Published genotypes that `parse_genotype` knows by name."""


def parse_genotype(text: str, levels: Sequence[Level]) -> Genotype:
    """Genotype of the text that `Genotype` prints, or of a name in `NAMED`.

    Raises:
        InputError: naming the level, the motif and the edge that is wrong, and what is allowed there.
    """
    try:
        document = json.loads(NAMED.get(text.strip(), text))
    except json.JSONDecodeError as error:
        raise InputError(f"genotype {_short(text)} is not JSON: {error}") from error
    expected = [level_name(index) for index in range(len(levels))]
    if not isinstance(document, dict) or sorted(document) != sorted(expected):
        raise InputError(f"genotype {_short(text)} must be a JSON object with the keys {', '.join(expected)}")
    return Genotype(tuple(_parse_level(document[name], index, levels) for index, name in enumerate(expected)))


def _parse_level(document: Any, index: int, levels: Sequence[Level]) -> tuple[Motif, ...]:
    count, nodes = levels[index]
    if not isinstance(document, list) or len(document) != count:
        found = len(document) if isinstance(document, list) else type(document).__name__
        raise InputError(f"{level_name(index)} of the genotype must be a list of {count} motifs, not {found}")
    allowed = operations_of(index, levels)
    return tuple(
        _parse_motif(edges, f"motif {number} of {level_name(index)}", nodes, allowed)
        for number, edges in enumerate(document)
    )


def _parse_motif(document: Any, where: str, nodes: int, allowed: Sequence[Operation]) -> Motif:
    if not isinstance(document, list):
        raise InputError(f"{where} must be a list of edges, not {_short(document)}")
    edges = [_parse_edge(edge, where, nodes, allowed) for edge in document]
    for one, other in combinations(edges, 2):
        if one[:2] == other[:2]:
            raise InputError(f"{where} has two edges {one.source}->{one.target}; one operation an edge is allowed")
    motif = make_motif(nodes, edges)
    if not motif.live_edges:
        raise InputError(f"{where} is without a sink: no path leads from node 0 to node {nodes - 1}")
    return motif


def _parse_edge(document: Any, where: str, nodes: int, allowed: Sequence[Operation]) -> Edge:
    if not isinstance(document, list) or len(document) != 3 or not all(map(_is_index, document[:2])):
        raise InputError(f"edge {_short(document)} in {where} must be [source node, target node, operation]")
    edge = Edge(*document)
    if not 0 <= max(edge.source, edge.target) < nodes or min(edge.source, edge.target) < 0:
        raise InputError(
            f"edge {edge.source}->{edge.target} in {where} needs more nodes than the {nodes} of this level, "
            f"0 to {nodes - 1}"
        )
    if edge.source >= edge.target:
        raise InputError(
            f"edge {edge.source}->{edge.target} in {where} leads back, so there may be a cycle; "
            "an edge must lead to a higher node"
        )
    if isinstance(edge.operation, bool) or edge.operation not in allowed:
        raise InputError(
            f"operation {_short(edge.operation)} on edge {edge.source}->{edge.target} in {where} is not of the "
            f"level below; allowed: {', '.join(map(str, allowed))}"
        )
    return edge


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
