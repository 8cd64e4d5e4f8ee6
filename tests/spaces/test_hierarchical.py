"""The hierarchical space: text, mutation, equal genotypes, networks, sizes."""

import json
import math
import pickle
from collections import Counter, defaultdict
from itertools import combinations, permutations, product

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.datasets import own_batch
from harness.engine import ScoringJob, score_architectures
from harness.progress import NullProgress
from harness.store import Store
from spaces.errors import InputError
from spaces.hierarchical import Edge, Flat, Genotype, Hierarchical, HierarchicalConfig, Level, Motif
from spaces.hierarchical.canonical import normal_form
from spaces.hierarchical.genotype import IDENTITY, NAMED, PRIMITIVES, make_motif
from spaces.hierarchical.variation import count_motifs, identity_chains
from spaces.registry import load_space

SPACE = Hierarchical()
FLAT = Flat()
DEEP = Hierarchical([Level(2, 3), Level(3, 4), Level(1, 3)])
SPACES = [SPACE, FLAT, DEEP]
TINY = HierarchicalConfig(image_size=8, channels=2)
EVOLVED = SPACE.parse("LIU_2018")

seeds = st.integers(0, 2**32)


def sample(space, seed=0):
    return space.sample(np.random.default_rng(seed))


def images(count=8):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def changed(text, *path_and_value):
    """The text with one value of its JSON replaced."""
    document = json.loads(text)
    *path, last, value = path_and_value
    inner = document
    for key in path:
        inner = inner[key]
    inner[last] = value
    return json.dumps(document)


# -- text


@pytest.mark.parametrize("space", SPACES)
@given(seed=seeds)
@settings(max_examples=10)
def test_parse_inverts_print(space, seed):
    genotype = sample(space, seed)
    assert space.parse(str(genotype)) == genotype
    assert str(space.parse(str(genotype))) == str(genotype)


def test_order_of_keys_edges_and_white_space_do_not_matter():
    document = json.loads(str(EVOLVED))
    shuffled = {name: [motif[::-1] for motif in document[name]] for name in reversed(document)}
    assert str(SPACE.parse(json.dumps(shuffled, indent=1))) == str(EVOLVED)


TEXT = str(EVOLVED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not JSON"),
        ("[]", "must be a JSON object with the keys level_2, level_3"),
        (changed(TEXT, "level_4", []), "must be a JSON object with the keys level_2, level_3"),
        (changed(TEXT, "level_2", []), "level_2 of the genotype must be a list of 6 motifs, not 0"),
        (changed(TEXT, "level_2", "identity"), "level_2 of the genotype must be a list of 6 motifs, not str"),
        (changed(TEXT, "level_2", 1, 7), "motif 1 of level_2 must be a list of edges, not 7"),
        (changed(TEXT, "level_2", 1, 0, [0, 1]), r"edge \[0, 1\] in motif 1 of level_2 must be \[source node"),
        (changed(TEXT, "level_2", 1, 0, [True, 1, "identity"]), "must be .source node"),
        (changed(TEXT, "level_2", 1, 0, [2, 1, "identity"]), "edge 2->1 in motif 1 of level_2 .* cycle"),
        (changed(TEXT, "level_2", 1, 0, [1, 1, "identity"]), "edge 1->1 in motif 1 of level_2 .* cycle"),
        (changed(TEXT, "level_2", 1, 0, [0, 4, "identity"]), "edge 0->4 in motif 1 .* more nodes than the 4"),
        (changed(TEXT, "level_3", 0, 0, [-1, 4, 0]), "edge -1->4 in motif 0 of level_3 .* 0 to 4"),
        (changed(TEXT, "level_2", 1, 0, [0, 1, 5]), "operation 5 on edge 0->1 in motif 1 .* identity, conv_1x1"),
        (changed(TEXT, "level_3", 0, 0, [0, 1, "identity"]), "operation 'identity' .* allowed: 0, 1, 2, 3, 4, 5"),
        (changed(TEXT, "level_3", 0, 0, [0, 1, 6]), "operation 6 on edge 0->1 in motif 0 of level_3"),
        (changed(TEXT, "level_3", 0, 0, [0, 1, True]), "operation True"),
        (changed(TEXT, "level_2", 1, 0, [0, 2, "identity"]), "motif 1 of level_2 has two edges 0->2"),
        (changed(TEXT, "level_2", 5, []), "motif 5 of level_2 is without a sink: no path .* node 0 to node 3"),
        (changed(TEXT, "level_3", 0, [[0, 1, 0], [2, 4, 0]]), "motif 0 of level_3 is without a sink"),
    ],
)
def test_malformed_text_names_the_bad_part(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "one motif, the cell"),
        ([Level(2, 3)], "one motif, the cell"),
        ([Level(0, 3), Level(1, 3)], "level 2 must have at least 1 motif"),
        ([Level(2, 3), Level(1, 1)], "level 3 must have .* at least 2 nodes"),
    ],
)
def test_impossible_levels_are_refused(levels, message):
    with pytest.raises(InputError, match=message):
        Hierarchical(levels)


# -- variation


@pytest.mark.parametrize("space", SPACES)
@given(seed=seeds)
@settings(max_examples=10)
def test_a_mutation_stays_in_the_space_and_is_a_neighbour(space, seed):
    genotype = sample(space, seed)
    mutant = space.mutate(genotype, np.random.default_rng(seed))
    assert space.parse(str(mutant)) == mutant != genotype
    assert mutant in set(space.neighbours(genotype))
    assert genotype in set(space.neighbours(mutant))


def test_neighbours_are_all_genotypes_one_operation_away():
    space = Hierarchical([Level(2, 2), Level(1, 3)])
    genotype = identity_chains(space.levels)
    found = list(space.neighbours(genotype))
    # Each of two level-2 edges takes 5 other primitives and cannot go; a cell edge of the chain takes the other
    # motif and cannot go; the third edge takes both.
    assert len(found) == len(set(found)) == 2 * 5 + 2 * 1 + 2


def test_level_motif_and_edge_of_a_mutation_are_uniform():
    space = Hierarchical([Level(2, 3), Level(1, 3)])
    genotype = sample(space)
    everywhere = [make_motif(3, [Edge(0, 1, 0), Edge(0, 2, 0), Edge(1, 2, 0)])]
    full = Genotype(
        (
            tuple([make_motif(3, [e._replace(operation=IDENTITY) for e in everywhere[0].edges])] * 2),
            tuple(everywhere),
        )
    )
    rng = np.random.default_rng(0)
    places = Counter()
    for _ in range(4000):
        mutant = space.mutate(full, rng)
        level, motif = next(
            (i, j)
            for i in range(2)
            for j in range(len(full.levels[i]))
            if mutant.levels[i][j] != full.levels[i][j]
        )
        ours = {(s, t): o for s, t, o in full.levels[level][motif].edges}
        theirs = {(s, t): o for s, t, o in mutant.levels[level][motif].edges}
        places[level, motif, next(edge for edge in ours if ours[edge] != theirs.get(edge))] += 1
    assert genotype != full
    # A level-3 edge changes with probability 2/3 (one other motif, or none), a level-2 edge with 6/7; a target
    # of two predecessors splits its half between them.
    weights = {(1, 0): 2 / 3, (0, 0): 3 / 7, (0, 1): 3 / 7}
    shares = {(0, 1): 0.5, (0, 2): 0.25, (1, 2): 0.25}
    total = sum(weights.values())
    for (level, motif, edge), seen in places.items():
        expected = 4000 * weights[level, motif] / total * shares[edge]
        assert abs(seen - expected) < 5 * math.sqrt(expected)


def test_sample_is_seeded_and_far_from_the_identity_chains():
    assert sample(SPACE, 3) == sample(SPACE, 3) != sample(SPACE, 4)
    used = {edge.operation for motif in sample(FLAT, 0).levels[0] for edge in motif.edges}
    assert used == set(PRIMITIVES)


@pytest.mark.parametrize(("nodes", "operations"), [(2, 3), (3, 2), (4, 1), (4, 2)])
def test_count_of_motifs_is_that_of_an_enumeration(nodes, operations):
    pairs = list(combinations(range(nodes), 2))
    motifs = (
        make_motif(
            nodes, [Edge(*pair, number) for pair, number in zip(pairs, row, strict=True) if number is not None]
        )
        for row in product([None, *range(operations)], repeat=len(pairs))
    )
    assert count_motifs(nodes, operations) == sum(bool(motif.live_edges) for motif in motifs)


def test_the_size_is_the_product_over_motifs():
    assert math.isclose(
        DEEP.log_size, math.log(count_motifs(3, 6) ** 2 * count_motifs(4, 2) ** 3 * count_motifs(3, 3))
    )


# -- equal genotypes


def renumbered(motif, rng):
    """The motif with its inner nodes in another order that edges still go up in, where there is one."""
    orders = [
        order
        for inner in permutations(range(1, motif.nodes - 1))
        if all(
            order.index(s) < order.index(t) for s, t, _ in motif.edges for order in [(0, *inner, motif.nodes - 1)]
        )
        for order in [(0, *inner, motif.nodes - 1)]
    ]
    order = orders[rng.integers(len(orders))]
    return make_motif(motif.nodes, [Edge(order.index(s), order.index(t), o) for s, t, o in motif.edges])


@given(seed=seeds)
@settings(max_examples=25)
def test_numbers_of_nodes_and_motifs_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    genotype = sample(SPACE, seed)
    numbers = rng.permutation(6).tolist()
    motifs = tuple(renumbered(genotype.levels[0][numbers.index(place)], rng) for place in range(6))
    cell = make_motif(5, [edge._replace(operation=numbers[edge.operation]) for edge in genotype.cell.edges])
    other = Genotype((motifs, (renumbered(cell, rng),)))
    assert str(SPACE.canonical(other, "live")) == str(SPACE.canonical(genotype, "live"))


@given(seed=seeds)
@settings(max_examples=25)
def test_motifs_and_edges_that_nothing_uses_do_not_matter(seed):
    genotype, other = sample(SPACE, seed), sample(SPACE, seed + 1)
    live = make_motif(5, genotype.cell.live_edges)
    used = {edge.operation for edge in live.edges}
    mixed = tuple((genotype if number in used else other).levels[0][number] for number in range(6))
    assert SPACE.canonical(Genotype((mixed, (live,))), "all") == SPACE.canonical(genotype, "all")


@pytest.mark.parametrize("space", SPACES)
@given(seed=seeds)
@settings(max_examples=10)
def test_a_canonical_genotype_is_valid_and_stands_for_itself(space, seed):
    canonical = space.canonical(sample(space, seed), "live")
    assert space.parse(str(canonical)) == canonical == space.canonical(canonical, "live")


def test_equal_motifs_become_one():
    motif = EVOLVED.levels[0][0]
    by_two_names = Genotype(((motif,) * 6, (make_motif(5, [Edge(0, 2, 0), Edge(2, 4, 3)]),)))
    canonical = SPACE.canonical(by_two_names, "live")
    assert canonical.cell.edges == (Edge(0, 1, 0), Edge(1, 4, 0))
    assert canonical.levels[0][1] == make_motif(4, [Edge(0, 3, IDENTITY)])


def draws(motif):
    """What a motif computes as a graph of its operations, identities written out: who reads whom, how often.

    It shares nothing with the code under test: nodes are operations, and an arc counts how often a value holds
    the result of another.
    """
    values = defaultdict(Counter, {0: Counter(["input"])})
    graph = nx.DiGraph()
    graph.add_node("input", operation="input")
    graph.add_node("output", operation="output")
    read = {}
    for source, target, operation in sorted(motif.edges, key=lambda edge: edge.target):
        value = values[source]
        if not value:
            continue
        if operation == IDENTITY:
            values[target] = values[target] + value
        else:
            read[source, target] = value
            graph.add_node((source, target), operation=operation)
            values[target][source, target] += 1
    read["output"] = values[motif.nodes - 1]
    for reader, value in read.items():
        for term, times in value.items():
            graph.add_edge(term, reader, times=times)
    alive = nx.ancestors(graph, "output") | {"output"}
    return graph.subgraph(alive)


def same_computation(one, other):
    return nx.is_isomorphic(
        one,
        other,
        node_match=lambda left, right: left["operation"] == right["operation"],
        edge_match=lambda left, right: left["times"] == right["times"],
    )


@pytest.mark.parametrize("nodes", [4, 5, 11])
@given(seed=seeds)
@settings(max_examples=30)
def test_the_normal_form_computes_the_same(nodes, seed):
    space = Hierarchical([Level(1, nodes)])
    motif = sample(space, seed).cell
    assert same_computation(draws(motif), draws(normal_form(motif)))


def profile(graph):
    """The same for graphs of the same computation: operations, and how often each reads and is read."""
    weight = "times"
    return tuple(
        sorted(
            (data["operation"], graph.in_degree(node, weight), graph.out_degree(node, weight))
            for node, data in graph.nodes.items()
        )
    )


def test_motifs_that_compute_the_same_have_one_normal_form():
    pairs = list(combinations(range(4), 2))
    motifs = (
        make_motif(4, [Edge(*pair, op) for pair, op in zip(pairs, row, strict=True) if op is not None])
        for row in product([None, IDENTITY, "conv_1x1", "max_pool_3x3"], repeat=6)
    )
    alike = defaultdict(list)
    for form in {normal_form(motif) for motif in motifs if motif.live_edges}:
        graph = draws(form)
        alike[profile(graph)].append(graph)
    assert sum(map(len, alike.values())) == 1010
    assert not any(same_computation(*pair) for group in alike.values() for pair in combinations(group, 2))


@pytest.mark.parametrize("nodes", [11, 40])
def test_the_normal_form_of_a_symmetric_motif_takes_no_search(nodes):
    edges = [Edge(0, node, "conv_1x1") for node in range(1, nodes - 1)]
    edges += [Edge(node, nodes - 1, "max_pool_3x3") for node in range(1, nodes - 1)]
    motif = make_motif(nodes, edges)
    assert normal_form(motif) == motif


# -- networks


@pytest.mark.parametrize("space", SPACES)
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_sizes_are_those_of_the_network(space, seed):
    genotype = sample(space, seed)
    config = HierarchicalConfig(image_size=8, channels=2, cells=2, classes=3)
    network = space.network(genotype, config, 0)
    counted = Counter()

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            counted["flops"] += module.weight[0].numel() * output[0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            counted["flops"] += 2 * output[0].numel()
        elif isinstance(module, nn.ReLU):
            counted["flops"] += output[0].numel()
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            counted["flops"] += 9 * output[0].numel()
        elif isinstance(module, nn.Linear):
            # and the mean before it, over 2 x 2 pixels
            counted["flops"] += module.weight.numel() + 4 * inputs[0][0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    assert network(images(2)).shape == (2, 3)
    complexity = space.complexity(genotype, config)
    assert complexity.params == sum(parameter.numel() for parameter in network.parameters())
    assert complexity.flops == counted["flops"]


def test_the_published_cell_has_the_published_size():
    assert SPACE.complexity(EVOLVED, HierarchicalConfig().large()).params == 15_727_306  # the paper: 15.7M
    assert NAMED["LIU_2018"] == str(EVOLVED)


def test_a_node_concatenates_and_a_motif_of_level_2_closes():
    network = SPACE.network(EVOLVED, HierarchicalConfig(channels=4), 0)
    cell = network.cells[0]
    assert cell.width == 4 * 4
    assert cell.edges["0_1"].closing[0].weight.shape == (4, 12, 1, 1)
    assert cell.edges["0_4"].closing[0].weight.shape == (4, 4 + 4 + 8, 1, 1)
    assert cell.edges["3_4"].edges["0_2-separable_3x3"][0].weight.shape == (12, 1, 3, 3)
    assert [block[1].weight.shape[0] for block in network.reductions] == [8, 16, 16]
    assert [block[0].stride[0] for block in network.reductions] == [2, 2, 1]


def test_the_large_network_has_two_cells_a_stage():
    config = HierarchicalConfig(channels=2).large()
    assert (config.channels, config.cells) == (64, 2)
    assert [block.stride for block in config.blocks()] == [1, 2, 1, 2, 1, 1]
    assert [block.channels for block in config.blocks()] == [64, 64, 128, 128, 256, 256]


def test_weights_depend_on_seed_and_place_and_not_on_the_number_of_a_motif():
    moved = Genotype(
        (
            EVOLVED.levels[0][::-1],
            (make_motif(5, [edge._replace(operation=5 - edge.operation) for edge in EVOLVED.cell.edges]),),
        )
    )
    one, other, reseeded = (
        SPACE.network(genotype, TINY, seed)(images())
        for genotype, seed in [(EVOLVED, 0), (moved, 0), (EVOLVED, 1)]
    )
    assert torch.equal(one, other)
    assert not torch.equal(one, reseeded)


def test_dead_edges_are_not_built():
    dead = Edge(1, 2, "conv_1x1")
    genotype = Genotype(
        ((make_motif(4, [Edge(0, 3, "conv_1x1"), Edge(0, 1, "conv_1x1"), dead]),) * 6, EVOLVED.levels[1])
    )
    names = [name for name, _ in SPACE.network(genotype, TINY, 0).named_parameters()]
    assert any("0_3-conv_1x1" in name for name in names)
    assert not any("0_1-conv_1x1" in name or "1_2-" in name for name in names)


def test_image_size_must_fit_two_reductions():
    with pytest.raises(InputError, match="image_size must be a multiple of 4"):
        HierarchicalConfig(image_size=30)


@pytest.mark.parametrize("name", ["hierarchical", "flat"])
def test_naswot_scores_genotypes_through_the_engine(name, tmp_path):
    space = load_space(name)
    job = ScoringJob(name, TINY, "naswot", 0, own_batch(images()), "cpu")
    genotypes = space.sample_distinct(3, np.random.default_rng(0))
    with Store(tmp_path / "store.sqlite") as store:
        summary = score_architectures(job, genotypes, store, NullProgress(), processes=1)
        scores = store.scores(store.score_context(job.context()))
    assert summary.scored == 3
    assert set(scores) == {str(space.canonical(genotype, "live")) for genotype in genotypes}
    assert len({record.value for record in scores.values()}) == 3


def test_a_genotype_can_be_sent_to_a_worker():
    assert pickle.loads(pickle.dumps(EVOLVED)) == EVOLVED
    assert isinstance(EVOLVED.cell, Motif)
