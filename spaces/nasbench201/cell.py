"""The NAS-Bench-201 cell: four nodes, six edges, five operations (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from spaces.errors import InputError

NONE, SKIP, CONV_1X1, CONV_3X3, POOL = "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"
OPERATIONS = (NONE, SKIP, CONV_1X1, CONV_3X3, POOL)
KERNELS = {CONV_1X1: 1, CONV_3X3: 3}
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OUTPUT_NODE = 3

OFFICIAL_SHUFFLE_SEED = 88
"""The benchmark's authors shuffled the cells with this seed before they numbered them."""


@dataclass(frozen=True, order=True)
class Cell:
    """One operation per edge, in the order of `EDGES`; its text is the benchmark's own."""

    operations: tuple[str, ...]

    def __str__(self) -> str:
        nodes = [
            "|" + "".join(f"{self.operations[index]}~{source}|" for index, source in edges_into(node))
            for node in (1, 2, 3)
        ]
        return "+".join(nodes)

    def replace(self, edge: int, operation: str) -> Cell:
        """This cell with another operation on one edge."""
        return Cell((*self.operations[:edge], operation, *self.operations[edge + 1 :]))


def edges_into(node: int) -> list[tuple[int, int]]:
    """(index of the edge, source node) of every edge that ends at `node`."""
    return [(index, source) for index, (source, target) in enumerate(EDGES) if target == node]


def edge_name(edge: int) -> str:
    """Name of an edge in parameter names: source_target."""
    source, target = EDGES[edge]
    return f"{source}_{target}"


def parse_cell(text: str) -> Cell:
    """Cell of the benchmark's text `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

    Raises:
        InputError: naming the node or edge that is wrong, and what is allowed there.
    """
    nodes = text.strip().split("+")
    if len(nodes) != OUTPUT_NODE:
        raise InputError(f"architecture {text!r} has {len(nodes)} nodes separated by '+'; a cell has 3")
    operations: list[str] = []
    for node, part in enumerate(nodes, start=1):
        if not re.fullmatch(r"\|(?:[^|]+\|)+", part):
            raise InputError(f"node {node} of architecture {text!r} is {part!r}; expected |operation~source|...|")
        edges = part.strip("|").split("|")
        if len(edges) != node:
            raise InputError(f"node {node} of architecture {text!r} has {len(edges)} edges; it needs {node}")
        for source, edge in enumerate(edges):
            operation, _, origin = edge.partition("~")
            if origin != str(source):
                raise InputError(f"edge {edge!r} into node {node} of {text!r} must end in '~{source}'")
            if operation not in OPERATIONS:
                allowed = ", ".join(OPERATIONS)
                raise InputError(
                    f"unknown operation {operation!r} on edge {source}->{node} of {text!r}; allowed: {allowed}"
                )
            operations.append(operation)
    return Cell(tuple(operations))


def official_order() -> Iterator[Cell]:
    """All 15,625 cells in the order of the benchmark's indices."""
    cells = [Cell(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    random.Random(OFFICIAL_SHUFFLE_SEED).shuffle(cells)
    return iter(cells)
