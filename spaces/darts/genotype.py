"""The DARTS genotype: a normal and a reduction cell of four nodes with two edges each (Liu et al., ICLR 2019)."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np

from spaces.errors import InputError

NONE, SKIP, MAX_POOL, AVERAGE_POOL = "none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"
SEPARABLE = {"sep_conv_3x3": 3, "sep_conv_5x5": 5}
DILATED = {"dil_conv_3x3": 3, "dil_conv_5x5": 5}
OPERATIONS = (NONE, MAX_POOL, AVERAGE_POOL, SKIP, *SEPARABLE, *DILATED)
"""In the authors' order, which is the order of the alphas."""

CHOICES = tuple(operation for operation in OPERATIONS if operation != NONE)
"""What a derived or sampled cell is made of: `none` is for supernets and for genotypes of others."""

INPUTS = 2
NODES = 4
OUTPUT = tuple(range(INPUTS, INPUTS + NODES))
"""Nodes whose concatenation is the output of a cell."""

KINDS = ("normal", "reduce")


class Edge(NamedTuple):
    """An operation and the node that it reads: 0 and 1 are the cell's inputs, 2 to 5 its own nodes."""

    operation: str
    source: int


Cell = tuple[Edge, ...]
"""Eight edges; those at 2i and 2i + 1 end at node i + 2."""


@dataclass(frozen=True, order=True)
class Genotype:
    """Both cells; the text is the authors' notation (cnn/genotypes.py)."""

    normal: Cell
    reduce: Cell

    def __str__(self) -> str:
        cells = [
            f"{kind}={[tuple(edge) for edge in cell]}, {kind}_concat={list(OUTPUT)}"
            for kind, cell in self.cells().items()
        ]
        return f"Genotype({', '.join(cells)})"

    def cells(self) -> dict[str, Cell]:
        """Both cells by kind."""
        return {"normal": self.normal, "reduce": self.reduce}


def edges_into(cell: Cell) -> Iterator[tuple[int, tuple[Edge, ...]]]:
    """(node, its two edges) of a cell, in the order of the nodes."""
    for place, node in enumerate(OUTPUT):
        yield node, cell[2 * place : 2 * place + 2]


def parse_genotype(
    text: str, operations: Sequence[str] = OPERATIONS, published: Mapping[str, Genotype] | None = None
) -> Genotype:
    """Genotype of a published name, of the authors' notation, or of JSON with `normal` and `reduce`.

    Its edges carry one of `operations`; the names are those of `published` (None: `PUBLISHED`). Nothing is
    evaluated. A node may read one source twice, as in the authors' AmoebaNet and in benchmarks of others, though
    no search of this space makes that.

    Raises:
        InputError: naming the cell, node or edge that is wrong, and what is allowed there.
    """
    stripped = text.strip()
    named = PUBLISHED if published is None else published
    if stripped in named:
        return named[stripped]
    fields = _json_fields(stripped) if stripped.startswith("{") else _call_fields(stripped, named)
    allowed = {name for kind in KINDS for name in (kind, f"{kind}_concat")}
    for name in fields:
        if name not in allowed:
            raise InputError(f"genotype has a field {name!r}; allowed: {', '.join(sorted(allowed))}")
    for kind in KINDS:
        if kind not in fields:
            raise InputError(
                f"genotype has no {kind} cell; expected normal=[(operation, input), ...], reduce=[...]"
            )
        concat = fields.get(f"{kind}_concat", OUTPUT)
        if not isinstance(concat, Sequence) or len(concat) != NODES or tuple(concat) != OUTPUT:
            raise InputError(f"{kind}_concat of a genotype is {concat!r}; this space concatenates {list(OUTPUT)}")
    return Genotype(*(_checked_cell(kind, fields[kind], operations) for kind in KINDS))


def _json_fields(text: str) -> Mapping[str, Any]:
    try:
        fields: Mapping[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"genotype {_short(text)} is not JSON: {error}") from error
    return fields


def _call_fields(text: str, named: Iterable[str]) -> Mapping[str, Any]:
    expected = f"expected {', '.join(named)}, Genotype(normal=[...], ...) or JSON with normal and reduce"
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"genotype {_short(text)} cannot be read; {expected}") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise InputError(f"genotype {_short(text)} cannot be read; {expected}")
    if call.args:
        raise InputError("fields of a genotype need their names, as in Genotype(normal=[...], reduce=[...])")
    return {str(keyword.arg): _literal(str(keyword.arg), keyword.value) for keyword in call.keywords}


def _literal(name: str, value: ast.expr) -> Any:
    """A literal, or a range of literals: derived genotypes are printed with `range(2, 6)`."""
    try:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "range":
            return range(*(ast.literal_eval(argument) for argument in value.args))
        return ast.literal_eval(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name} of a genotype is {_short(ast.unparse(value))}; expected a list") from error


def _checked_cell(kind: str, edges: object, operations: Sequence[str]) -> Cell:
    if not isinstance(edges, Sequence) or len(edges) != 2 * NODES:
        found = len(edges) if isinstance(edges, Sequence) else repr(edges)
        raise InputError(f"{kind} cell of a genotype has {found} edges; it needs {2 * NODES}, two for each node")
    return tuple(_checked_edge(kind, place // 2 + INPUTS, edge, operations) for place, edge in enumerate(edges))


def _checked_edge(kind: str, node: int, edge: object, operations: Sequence[str]) -> Edge:
    where = f"into node {node} of the {kind} cell"
    if not isinstance(edge, Sequence) or isinstance(edge, str) or len(edge) != 2:
        raise InputError(f"edge {edge!r} {where} must be (operation, input)")
    operation, source = edge
    if operation not in operations:
        raise InputError(f"unknown operation {operation!r} {where}; allowed: {', '.join(operations)}")
    if type(source) is not int or not 0 <= source < node:
        raise InputError(f"input {source!r} of the edge {where} must be 0 to {node - 1}")
    return Edge(operation, source)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def check_paths(genotype: Genotype) -> None:
    """Raise `InputError` if nothing but `none` leads from the inputs of a cell to its output."""
    for kind, cell in genotype.cells().items():
        if all(edge.operation == NONE for edge in cell if edge.source < INPUTS):
            raise InputError(f"the {kind} cell has no path from its inputs to its output")


def sample_cell(rng: np.random.Generator, choices: Sequence[str] = CHOICES) -> Cell:
    """For each node a pair of sources and two operations of the choices, each uniform."""
    edges: list[Edge] = []
    for node in OUTPUT:
        sources = list(combinations(range(node), 2))[int(rng.integers(node * (node - 1) // 2))]
        edges += [Edge(choices[int(rng.integers(len(choices)))], source) for source in sources]
    return tuple(edges)


def neighbouring_cells(cell: Cell, choices: Sequence[str] = CHOICES) -> Iterator[Cell]:
    """Cells that differ in the operation (one of `choices`) or the source of one edge; no twin sources."""
    for place, edge in enumerate(cell):
        other = cell[place ^ 1]
        sources = [source for source in range(place // 2 + INPUTS) if source not in (edge.source, other.source)]
        changed = [Edge(operation, edge.source) for operation in choices if operation != edge.operation]
        changed += [edge._replace(source=source) for source in sources]
        for new in changed:
            yield (*cell[:place], new, *cell[place + 1 :])


def canonical_cell(cell: Cell) -> Cell:
    """The smallest of the cells that compute the same up to a renaming of nodes and of random draws.

    Merged are: the order of the two edges of a node, since addition commutes; the order of the nodes, since the
    weights that read the concatenation are drawn alike for all nodes; and the source of a `none`.
    """
    nodes = {
        node: [Edge(NONE, 0) if edge.operation == NONE else edge for edge in edges]
        for node, edges in edges_into(cell)
    }
    return min(_renumbered(nodes, order) for order in permutations(OUTPUT) if _runs_forward(nodes, order))


def _runs_forward(nodes: Mapping[int, Sequence[Edge]], order: Sequence[int]) -> bool:
    """Whether every node stands after those that it reads."""
    place = {node: position for position, node in enumerate(order)}
    return all(place.get(edge.source, -1) < place[node] for node, edges in nodes.items() for edge in edges)


def _renumbered(nodes: Mapping[int, Sequence[Edge]], order: Sequence[int]) -> Cell:
    number = {0: 0, 1: 1, **{node: position for position, node in enumerate(order, start=INPUTS)}}
    return tuple(
        edge
        for node in order
        for edge in sorted(Edge(operation, number[source]) for operation, source in nodes[node])
    )


def _cell(*edges: tuple[str, int]) -> Cell:
    return tuple(Edge(*edge) for edge in edges)


PUBLISHED: Mapping[str, Genotype] = {
    "DARTS_V1": Genotype(
        normal=_cell(
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 0),
            ("skip_connect", 0),
            ("sep_conv_3x3", 1),
            ("skip_connect", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 0),
            ("skip_connect", 2),
        ),
        reduce=_cell(
            ("max_pool_3x3", 0),
            ("max_pool_3x3", 1),
            ("skip_connect", 2),
            ("max_pool_3x3", 0),
            ("max_pool_3x3", 0),
            ("skip_connect", 2),
            ("skip_connect", 2),
            ("avg_pool_3x3", 0),
        ),
    ),
    "DARTS_V2": Genotype(
        normal=_cell(
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1),
            ("skip_connect", 0),
            ("skip_connect", 0),
            ("dil_conv_3x3", 2),
        ),
        reduce=_cell(
            ("max_pool_3x3", 0),
            ("max_pool_3x3", 1),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
            ("max_pool_3x3", 0),
            ("skip_connect", 2),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
        ),
    ),
}
"""Cells that the authors found by first and second order search (cnn/genotypes.py)."""
