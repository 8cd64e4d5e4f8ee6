"""Which genotypes compute the same: one that stands for all that differ in how they are written.

Initial weights are independent and identically distributed, and a node concatenates its inputs, so the order of
channels decides nothing. What does not matter then: edges on no path from source to sink, motifs that no edge
uses, the numbers of motifs and of nodes, and identities that only give a value another name: an identity that
is a node's only input, or that is all a node is used for. Not merged are genotypes that cut one computation
into motifs at different places, and pools that move past a concatenation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement, count, groupby, islice, product
from typing import Any

from spaces.hierarchical.genotype import IDENTITY, Edge, Genotype, Motif, make_motif

FORMS_KEPT = 1 << 16
"""A mutation changes one motif, so the forms of the others are asked for again."""


def canonical_genotype(genotype: Genotype) -> Genotype:
    """The same for genotypes that differ only in what the module names; used motifs first, in order."""
    rows: list[tuple[Motif, ...]] = []
    below: dict[Any, Any] = {}
    for motifs, used in zip(genotype.levels, _used_motifs(genotype), strict=True):
        forms = {number: normal_form(_renamed(motifs[number], below)) for number in used}
        ordered = sorted(set(forms.values()))
        below = {number: ordered.index(form) for number, form in forms.items()}
        rows.append((*ordered, *[_unused(motifs[0].nodes, len(rows))] * (len(motifs) - len(ordered))))
    return Genotype(tuple(rows))


def _used_motifs(genotype: Genotype) -> list[set[int]]:
    """Indices of the motifs of each level that the cell is made of."""
    used = [{0}]
    for motifs in reversed(genotype.levels[1:]):
        used.append({int(edge.operation) for number in used[-1] for edge in motifs[number].live_edges})
    return used[::-1]


def _renamed(motif: Motif, names: Mapping[Any, Any]) -> Motif:
    """The live part of a motif, its operations renamed; a name that is not in the mapping is kept."""
    return Motif(
        motif.nodes,
        tuple(edge._replace(operation=names.get(edge.operation, edge.operation)) for edge in motif.live_edges),
    )


def _unused(nodes: int, index: int) -> Motif:
    """What stands in the place of a motif that no edge uses."""
    return make_motif(nodes, [Edge(0, nodes - 1, IDENTITY if index == 0 else 0)])


@lru_cache(FORMS_KEPT)
def normal_form(motif: Motif) -> Motif:
    """Smallest numbering of the live motif without needless identities; its idle nodes come before the sink.

    Joining the nodes of needless identities leaves bundles of edges between two nodes. In the result a bundle
    is spread over as few identities as it can be, so it fits whatever nodes any equal motif has.
    """
    edges: Sequence[Edge] = motif.live_edges
    while (joined := _join(edges)) is not None:
        edges = joined
    edges = _numbered(_spread(_numbered(edges)))
    sink = max(edge.target for edge in edges)
    return make_motif(motif.nodes, [_moved(edge, sink, motif.nodes - 1) for edge in edges])


def _join(edges: Sequence[Edge]) -> list[Edge] | None:
    """Edges with the two nodes of a needless identity joined into one; None if no identity is needless."""
    if len(edges) == 1:
        return None
    inputs = Counter(edge.target for edge in edges)
    outputs = Counter(edge.source for edge in edges)
    for number, edge in enumerate(edges):
        if edge.operation == IDENTITY and 1 in (inputs[edge.target], outputs[edge.source]):
            others = (*edges[:number], *edges[number + 1 :])
            return [_moved(other, edge.target, edge.source) for other in others]
    return None


def _moved(edge: Edge, node: int, to: int) -> Edge:
    """Edge that starts or ends at `to` where it did at `node`."""
    source, target = (to if end == node else end for end in (edge.source, edge.target))
    return Edge(source, target, edge.operation)


def _spread(edges: Sequence[Edge]) -> list[Edge]:
    """Edges of which no two join the same nodes, by as few new nodes as that takes.

    A new node is a copy of another, made by an identity from it, where edges of a bundle can start; or it
    gathers for another, by an identity to it, and edges of a bundle can end there.
    """
    bundles = {ends: list(bundle) for ends, bundle in groupby(sorted(edges), key=lambda edge: edge[:2])}
    wide = {ends: len(bundle) for ends, bundle in bundles.items() if len(bundle) > 1}
    places = sorted({(end, "copies" if end == ends[0] else "gathers") for ends in wide for end in ends})
    extra = next(
        Counter(chosen)
        for total in count()
        for chosen in combinations_with_replacement(places, total)
        if all(
            (1 + chosen.count((source, "copies"))) * (1 + chosen.count((target, "gathers"))) >= width
            for (source, target), width in wide.items()
        )
    )
    unnamed = count(1 + max(edge.target for edge in edges))
    nodes = {place: [place[0], *islice(unnamed, extra[place])] for place in places}
    spread = [
        Edge(node, new, IDENTITY) if role == "copies" else Edge(new, node, IDENTITY)
        for (node, role), (_, *added) in nodes.items()
        for new in added
    ]
    for (source, target), bundle in bundles.items():
        ends = product(nodes.get((source, "copies"), [source]), nodes.get((target, "gathers"), [target]))
        spread += [Edge(*pair, edge.operation) for pair, edge in zip(ends, bundle, strict=False)]
    return spread


Colours = dict[int, int]
"""A number for each node; nodes of one number are not told apart yet."""


def _numbered(edges: Sequence[Edge]) -> list[Edge]:
    """Edges sorted, their nodes renumbered from source to sink: equal for graphs that differ in numbers alone."""
    numberings = _numberings(_refined(_depths(edges), edges), edges)
    return min(
        sorted(Edge(numbers[edge.source], numbers[edge.target], edge.operation) for edge in edges)
        for numbers in numberings
    )


def _depths(edges: Sequence[Edge]) -> Colours:
    """Edges on the longest way from the source to each node, so that every edge leads to a higher number."""
    targets = {edge.target for edge in edges}
    depths = {edge.source: 0 for edge in edges if edge.source not in targets}
    waiting = list(edges)
    while waiting:
        open_targets = {edge.target for edge in waiting}
        ready = [edge for edge in waiting if edge.source not in open_targets]
        for edge in ready:
            depths[edge.target] = max(depths.get(edge.target, 0), depths[edge.source] + 1)
        waiting = [edge for edge in waiting if edge.source in open_targets]
    return depths


def _refined(colours: Colours, edges: Sequence[Edge]) -> Colours:
    """Colours, split until nodes of one colour have edges of the same operations to the same colours."""
    while True:
        keys = {node: (colour, *_surroundings(node, colours, edges)) for node, colour in colours.items()}
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys.values())))}
        split = {node: ranks[key] for node, key in keys.items()}
        if len(ranks) == len(set(colours.values())):
            return split
        colours = split


def _surroundings(node: int, names: Mapping[int, int], edges: Iterable[Edge]) -> tuple[tuple[Any, ...], ...]:
    inputs = tuple(sorted((edge.operation, names[edge.source]) for edge in edges if edge.target == node))
    outputs = tuple(sorted((edge.operation, names[edge.target]) for edge in edges if edge.source == node))
    return inputs, outputs


def _numberings(colours: Colours, edges: Sequence[Edge]) -> Iterator[Colours]:
    """Refinements to one node a colour that may be the smallest: each node of a colour is tried as its first."""
    alike = Counter(colours.values())
    doubtful = [node for node, colour in colours.items() if alike[colour] > 1]
    if not doubtful:
        yield colours
        return
    first = min(colours[node] for node in doubtful)
    themselves = {node: node for node in colours}
    tried: list[Any] = []
    for node in colours:
        # Two nodes with the same edges can change places, so one of them is enough.
        surroundings = _surroundings(node, themselves, edges)
        if colours[node] != first or surroundings in tried:
            continue
        tried.append(surroundings)
        apart = {other: 2 * colour + (colour == first and other != node) for other, colour in colours.items()}
        yield from _numberings(_refined(apart, edges), edges)
