"""What a cell computes, with everything that changes nothing taken away, and which cells are the same.

A node's value is the multiset of terms that are added up there: the cell's input, the output of a
convolution, or a pooled value. Skips disappear (their source's terms are added instead), edges that carry
nothing disappear, and node numbers disappear. A convolution is one random draw however often its output is
used, so a term names the edge it came from and is never expanded into a tree.

Two cells are the same if their graphs are equal after renaming the draws: initial weights are independent
and identically distributed per kernel size, so the two scores have one distribution. Average pooling is
linear, so pool(a) + pool(b) is pool(a + b) in exact arithmetic; in float32 the two round differently, and
they are kept apart, so that every cell of a class has the same plan to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby, permutations, product
from typing import NamedTuple

from spaces.base import Counting
from spaces.nasbench201.cell import KERNELS, NONE, OUTPUT_NODE, SKIP, Cell, edges_into, official_order


class Term(NamedTuple):
    """One summand of a value: the cell's input, the output of the convolution on `edge`, or pooled terms."""

    kind: str
    edge: int = -1
    pooled: tuple[Term, ...] = ()


Value = tuple[Term, ...]
"""Terms in sorted order: equal values are equal tuples."""

INPUT: Value = (Term("input"),)
ZERO: Value = ()


class Draw(NamedTuple):
    """A convolution: the edge whose weights it draws, its operation, and the value that it reads."""

    edge: int
    operation: str
    source: Value


@dataclass(frozen=True)
class ComputationGraph:
    """The convolutions that matter, in the order of their edges, the output, and the values only read.

    `readings` are values under a ReLU whose convolution reaches nothing; only `counting="all"` has them.
    """

    draws: tuple[Draw, ...]
    output: Value
    readings: tuple[Value, ...]


def computation_graph(cell: Cell, counting: Counting, cell_input: Value = INPUT) -> ComputationGraph:
    """Graph of a cell whose input is `INPUT`, or `ZERO` where nothing reaches the cell."""
    values = [cell_input, ZERO, ZERO, ZERO]
    read: dict[int, Value] = {}
    for node in range(1, OUTPUT_NODE + 1):
        terms: list[Term] = []
        for edge, source in edges_into(node):
            operation, value = cell.operations[edge], values[source]
            if operation in KERNELS:
                read[edge] = value
            if operation == NONE or not value:
                continue
            if operation == SKIP:
                terms += value
            elif operation in KERNELS:
                terms.append(Term("conv", edge))
            else:
                terms.append(Term("pool", pooled=value))
        values[node] = tuple(sorted(terms))
    output = values[OUTPUT_NODE]
    seen = {} if counting == "live" else read
    needed = _needed_edges([output, *seen.values()], read)
    return ComputationGraph(
        draws=tuple(Draw(edge, cell.operations[edge], read[edge]) for edge in sorted(needed)),
        output=output,
        readings=tuple(sorted(value for edge, value in seen.items() if edge not in needed)),
    )


def _needed_edges(roots: Iterable[Value], read: Mapping[int, Value]) -> set[int]:
    """Edges whose convolution some root depends on."""
    needed: set[int] = set()
    pending = list(roots)
    while pending:
        for term in pending.pop():
            if term.kind == "pool":
                pending.append(term.pooled)
            elif term.kind == "conv" and term.edge not in needed:
                needed.add(term.edge)
                pending.append(read[term.edge])
    return needed


def normal_form(graph: ComputationGraph) -> ComputationGraph:
    """The same for two graphs exactly when renaming their draws makes them equal.

    It is the smallest graph over all numberings of the draws that list them by kind; kinds do not depend on
    names, so only draws of one kind can change places.
    """
    return min(
        (_renamed(graph, numbering) for numbering in _numberings(graph)),
        key=lambda form: (form.draws, form.output, form.readings),
    )


def _numberings(graph: ComputationGraph) -> Iterator[dict[int, int]]:
    def kind(draw: Draw) -> tuple[str, Value, int]:
        return draw.operation, _renamed_value(draw.source, {}), graph.output.count(Term("conv", draw.edge))

    kinds = [[draw.edge for draw in same] for _, same in groupby(sorted(graph.draws, key=kind), key=kind)]
    for orders in product(*(permutations(edges) for edges in kinds)):
        yield {edge: number for number, edge in enumerate(edge for order in orders for edge in order)}


def _renamed_value(value: Value, numbering: Mapping[int, int]) -> Value:
    """Value with its draws renumbered; those that `numbering` lacks lose their names."""
    terms = [
        Term(term.kind, numbering.get(term.edge, -1), _renamed_value(term.pooled, numbering)) for term in value
    ]
    return tuple(sorted(terms))


def _renamed(graph: ComputationGraph, numbering: Mapping[int, int]) -> ComputationGraph:
    def rename(value: Value) -> Value:
        return _renamed_value(value, numbering)

    return ComputationGraph(
        tuple(sorted(Draw(numbering[draw.edge], draw.operation, rename(draw.source)) for draw in graph.draws)),
        rename(graph.output),
        tuple(sorted(map(rename, graph.readings))),
    )


@cache
def representatives(counting: Counting) -> Mapping[Cell, Cell]:
    """Every cell of the space to the one that stands for its class: fewest edges, then the official order."""
    by_graph: dict[ComputationGraph, list[Cell]] = {}
    for cell in official_order():
        by_graph.setdefault(computation_graph(cell, counting), []).append(cell)
    classes: dict[ComputationGraph, list[Cell]] = {}
    for graph, cells in by_graph.items():
        classes.setdefault(normal_form(graph), []).extend(cells)
    position = {cell: index for index, cell in enumerate(official_order())}
    found: dict[Cell, Cell] = {}
    for cells in classes.values():
        first = min(cells, key=lambda cell: (-cell.operations.count(NONE), position[cell]))
        found |= dict.fromkeys(cells, first)
    return found
