"""The genotype of the DARTS recurrent cell: for each of eight nodes an activation and a predecessor."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spaces.errors import InputError

NONE, IDENTITY = "none", "identity"
ACTIVATIONS = ("tanh", "relu", "sigmoid", IDENTITY)
OPERATIONS = (NONE, *ACTIVATIONS)
"""In the authors' order, which is the order of the alphas; `none` is for supernets only."""

NODES = 8
OUTPUT = tuple(range(1, NODES + 1))
"""Nodes whose mean is the output of the cell; node 0 is made from the token and the state before it."""

EXPECTED = "expected DARTS_V1, DARTS_V2 or Genotype(recurrent=[(activation, predecessor), ...])"


class Node(NamedTuple):
    """What a node does and the node that it reads."""

    activation: str
    predecessor: int


@dataclass(frozen=True, order=True)
class RecurrentGenotype:
    """Nodes 1 to 8; the text is the authors' notation (rnn/genotypes.py)."""

    recurrent: tuple[Node, ...]

    def __str__(self) -> str:
        return f"Genotype(recurrent={[tuple(node) for node in self.recurrent]}, concat={list(OUTPUT)})"


def parse_genotype(text: str) -> RecurrentGenotype:
    """Genotype of a published name or of the authors' notation; nothing is evaluated.

    Raises:
        InputError: naming the field or node that is wrong, and what is allowed there.
    """
    stripped = text.strip()
    if stripped in PUBLISHED:
        return PUBLISHED[stripped]
    fields = _fields(stripped)
    for name in fields:
        if name not in ("recurrent", "concat"):
            raise InputError(f"genotype has a field {name!r}; allowed: recurrent, concat")
    if "recurrent" not in fields:
        raise InputError(f"genotype has no field 'recurrent'; {EXPECTED}")
    concat = fields.get("concat", OUTPUT)
    if not isinstance(concat, Sequence) or tuple(concat) != OUTPUT:
        raise InputError(f"concat of a genotype is {concat!r}; this space averages {list(OUTPUT)}")
    nodes = fields["recurrent"]
    if not isinstance(nodes, Sequence) or len(nodes) != NODES:
        found = len(nodes) if isinstance(nodes, Sequence) else repr(nodes)
        raise InputError(f"recurrent of a genotype has {found} nodes; it needs {NODES}")
    return RecurrentGenotype(tuple(_checked_node(number, node) for number, node in enumerate(nodes, start=1)))


def _fields(text: str) -> Mapping[str, Any]:
    shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"genotype {shown} cannot be read; {EXPECTED}") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise InputError(f"genotype {shown} cannot be read; {EXPECTED}")
    if call.args:
        raise InputError("fields of a genotype need their names, as in Genotype(recurrent=[...])")
    return {str(keyword.arg): _literal(str(keyword.arg), keyword.value) for keyword in call.keywords}


def _literal(name: str, value: ast.expr) -> Any:
    """A literal, or a range of literals: the authors print `concat=range(1, 9)`."""
    try:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "range":
            return range(*(ast.literal_eval(argument) for argument in value.args))
        return ast.literal_eval(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name} of a genotype is {ast.unparse(value)[:60]!r}; expected a list") from error


def _checked_node(number: int, node: object) -> Node:
    if not isinstance(node, Sequence) or isinstance(node, str) or len(node) != 2:
        raise InputError(f"node {number} of a genotype is {node!r}; it must be (activation, predecessor)")
    activation, predecessor = node
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown activation {activation!r} of node {number}; allowed: {', '.join(ACTIVATIONS)}")
    if type(predecessor) is not int or not 0 <= predecessor < number:
        raise InputError(f"predecessor {predecessor!r} of node {number} must be 0 to {number - 1}")
    return Node(activation, predecessor)


def sample_genotype(rng: np.random.Generator) -> RecurrentGenotype:
    """For each node an activation and a predecessor, both uniform."""
    return RecurrentGenotype(
        tuple(
            Node(ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))], int(rng.integers(number))) for number in OUTPUT
        )
    )


def neighbouring_genotypes(genotype: RecurrentGenotype) -> Iterator[RecurrentGenotype]:
    """The 52 genotypes that differ in the activation or in the predecessor of one node."""
    for place, present in enumerate(genotype.recurrent):
        changed = [present._replace(activation=name) for name in ACTIVATIONS if name != present.activation]
        changed += [present._replace(predecessor=node) for node in range(place + 1) if node != present.predecessor]
        for node in changed:
            yield RecurrentGenotype((*genotype.recurrent[:place], node, *genotype.recurrent[place + 1 :]))


def canonical_genotype(genotype: RecurrentGenotype) -> RecurrentGenotype:
    """The genotype with its nodes numbered in the one order that all renamings share.

    Every node has one predecessor, so a cell is a tree with node 0 as its root, and the output is the mean over
    all others: cells whose trees are equal but for the order of branches compute the same up to a renaming of
    the random draws. Branches are put in order from the leaves, then numbered from the root.
    """
    children: dict[int, list[int]] = {node: [] for node in range(NODES + 1)}
    for number, node in enumerate(genotype.recurrent, start=1):
        children[node.predecessor].append(number)

    def tree(number: int) -> _Tree:
        branches = sorted(tree(child) for child in children[number])
        return (genotype.recurrent[number - 1].activation if number else "", tuple(branches))

    nodes: list[Node] = []

    def number_below(branch: _Tree, number: int) -> None:
        for below in branch[1]:
            nodes.append(Node(below[0], number))
            number_below(below, len(nodes))

    number_below(tree(0), 0)
    return RecurrentGenotype(tuple(nodes))


_Tree = tuple[str, tuple[Any, ...]]
"""Activation of a node, and the trees of those that read it."""


def _genotype(*nodes: tuple[str, int]) -> RecurrentGenotype:
    return RecurrentGenotype(tuple(Node(*node) for node in nodes))


PUBLISHED: Mapping[str, RecurrentGenotype] = {
    "DARTS_V1": _genotype(
        ("relu", 0),
        ("relu", 1),
        ("tanh", 2),
        ("relu", 3),
        ("relu", 4),
        ("identity", 1),
        ("relu", 5),
        ("relu", 1),
    ),
    "DARTS_V2": _genotype(
        ("sigmoid", 0),
        ("relu", 1),
        ("relu", 1),
        ("identity", 1),
        ("tanh", 2),
        ("sigmoid", 5),
        ("tanh", 3),
        ("relu", 5),
    ),
}
"""Cells that the authors found by first and second order search on Penn Treebank (rnn/genotypes.py)."""
