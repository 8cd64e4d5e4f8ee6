"""How genotypes vary: random mutations, all neighbours, and how many genotypes there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from spaces.hierarchical.genotype import (
    IDENTITY,
    Edge,
    Genotype,
    Level,
    Motif,
    Operation,
    chain,
    make_motif,
    operations_of,
)


def identity_chains(levels: Sequence[Level]) -> Genotype:
    """Every motif a chain: of identities at level 2, above it of the first motif of the level below."""
    return Genotype(
        tuple(
            (chain(level.nodes, IDENTITY if index == 0 else 0),) * level.motifs
            for index, level in enumerate(levels)
        )
    )


def mutated(genotype: Genotype, levels: Sequence[Level], rng: np.random.Generator, mutations: int) -> Genotype:
    """Genotype after so many mutations that change it (Liu et al., section 3.1).

    Level, motif, target node, earlier node and new operation, none among them, are each uniform. A mutation
    is drawn anew where it would change nothing or leave a motif without a path from source to sink.
    """
    touched: dict[tuple[int, int], Operations] = {}
    allowed = [(*operations_of(index, levels), None) for index in range(len(levels))]
    left = mutations
    while left:
        for draw in rng.random((left, 5)).tolist():
            level = int(draw[0] * len(levels))
            count, nodes = levels[level]
            number = int(draw[1] * count)
            if (level, number) not in touched:
                touched[level, number] = _operations(genotype.levels[level][number])
            target = 1 + int(draw[2] * (nodes - 1))
            edge = int(draw[3] * target), target
            left -= _replace(
                touched[level, number], edge, allowed[level][int(draw[4] * len(allowed[level]))], nodes
            )
    return Genotype(
        tuple(
            tuple(
                _motif(touched[index, number], motif.nodes) if (index, number) in touched else motif
                for number, motif in enumerate(motifs)
            )
            for index, motifs in enumerate(genotype.levels)
        )
    )


Operations = dict[tuple[int, int], Operation]
"""Operation of each (source, target) that has one."""


def _operations(motif: Motif) -> Operations:
    return {(edge.source, edge.target): edge.operation for edge in motif.edges}


def _motif(operations: Operations, nodes: int) -> Motif:
    return make_motif(nodes, [Edge(*edge, operation) for edge, operation in operations.items()])


def _replace(operations: Operations, edge: tuple[int, int], new: Operation | None, nodes: int) -> bool:
    """Put `new` on the edge, None for no edge; False, and nothing done, where that is no valid change."""
    old = operations.get(edge)
    if new == old:
        return False
    if new is not None:
        operations[edge] = new
        return True
    assert old is not None
    del operations[edge]
    if not _motif(operations, nodes).live_edges:
        operations[edge] = old
        return False
    return True


def neighbours(genotype: Genotype, levels: Sequence[Level]) -> Iterator[Genotype]:
    """Every valid genotype with another operation on one edge, an edge more or an edge less."""
    for index, motifs in enumerate(genotype.levels):
        for number, motif in enumerate(motifs):
            for changed in _changed(motif, (*operations_of(index, levels), None)):
                row = (*motifs[:number], changed, *motifs[number + 1 :])
                yield Genotype((*genotype.levels[:index], row, *genotype.levels[index + 1 :]))


def _changed(motif: Motif, allowed: Sequence[Operation | None]) -> Iterator[Motif]:
    for target in range(1, motif.nodes):
        for source in range(target):
            for operation in allowed:
                operations = _operations(motif)
                if _replace(operations, (source, target), operation, motif.nodes):
                    yield _motif(operations, motif.nodes)


def log_count(levels: Sequence[Level]) -> float:
    """Natural logarithm of the number of genotypes as written."""
    return sum(
        level.motifs * math.log(count_motifs(level.nodes, len(operations_of(index, levels))))
        for index, level in enumerate(levels)
    )


def count_motifs(nodes: int, operations: int) -> int:
    """Number of motifs whose sink is reached, each edge carrying one of so many operations or none."""
    choices = operations + 1
    # by_reached[r]: ways for the nodes so far, r of which are reached
    by_reached = {1: 1}
    for node in range(1, nodes - 1):
        following: dict[int, int] = {}
        for reached, ways in by_reached.items():
            apart = choices ** (node - reached)
            following[reached] = following.get(reached, 0) + ways * apart
            following[reached + 1] = following.get(reached + 1, 0) + ways * (choices**node - apart)
        by_reached = following
    sink = nodes - 1
    return sum(ways * (choices**sink - choices ** (sink - reached)) for reached, ways in by_reached.items())
