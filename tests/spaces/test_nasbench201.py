"""The NAS-Bench-201 space: text, order, classes of equal cells, plans, networks, sizes."""

from functools import cache
from hashlib import blake2b
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.backends.torch_backend import TorchBackend
from spaces.errors import InputError
from spaces.nasbench201 import Cell, NASBench201, NASBench201Config
from spaces.nasbench201.cell import EDGES, KERNELS, NONE, OPERATIONS, POOL, SKIP, edges_into
from spaces.nasbench201.graph import computation_graph, representatives
from spaces.plan import ReLUCode
from spaces.registry import load_space

SPACE = NASBench201()
SMALL = NASBench201Config(input_channels=3, image_size=8, channels=4, cells=1)
EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"

cells = st.tuples(*[st.sampled_from(OPERATIONS)] * 6).map(Cell)


@pytest.fixture(scope="module")
def accuracies(real_data):
    return pd.read_parquet(real_data / "nasbench201_accuracy.parquet")


def images(count=8, channels=3, size=8):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_enumeration_is_the_official_order(accuracies):
    assert [str(cell) for cell in SPACE] == accuracies.architecture.tolist()


@given(cells)
def test_parse_inverts_print(cell):
    assert SPACE.parse(str(cell)) == cell


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "1 nodes"),
        ("|none~0|+|none~0|none~1|", "2 nodes"),
        (EXAMPLE.replace("skip_connect~1", "skip~1"), "'skip' on edge 1->2"),
        (EXAMPLE.replace("none~0", "none~1"), "'none~1' into node 2"),
        (EXAMPLE.replace("|none~0|", "|"), "node 2"),
        (EXAMPLE.replace("|skip_connect~2|", "|skip_connect~2"), "node 3"),
    ],
)
def test_malformed_text_names_the_bad_part(text, part):
    with pytest.raises(InputError, match=part.replace("(", r"\(")):
        SPACE.parse(text)


def test_unknown_operation_lists_the_allowed_ones():
    with pytest.raises(InputError, match="none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"):
        SPACE.parse(EXAMPLE.replace("nor_conv_3x3", "sep_conv_3x3"))


def test_sample_is_seeded_and_distinct():
    first = SPACE.sample_distinct(500, np.random.default_rng(3))
    assert first == SPACE.sample_distinct(500, np.random.default_rng(3))
    assert first != SPACE.sample_distinct(500, np.random.default_rng(4))
    assert len(set(first)) == 500


def test_a_larger_sample_extends_a_smaller_one():
    small, large = (SPACE.sample_distinct(count, np.random.default_rng(3)) for count in (20, 50))
    assert large[:20] == small


def test_sample_of_everything_ends():
    assert set(SPACE.sample_distinct(SPACE.size, np.random.default_rng(0))) == set(SPACE)


def test_sample_larger_than_the_space_is_refused():
    with pytest.raises(InputError, match="more than the 15625"):
        SPACE.sample_distinct(15_626, np.random.default_rng(0))


@given(cells, st.integers(0, 2**32))
def test_mutation_is_a_neighbour(cell, seed):
    mutant = SPACE.mutate(cell, np.random.default_rng(seed))
    assert mutant in set(SPACE.neighbours(cell))
    assert sum(a != b for a, b in zip(cell.operations, mutant.operations, strict=True)) == 1


def test_every_cell_has_24_neighbours():
    assert len(set(SPACE.neighbours(SPACE.parse(EXAMPLE)))) == 24


# -- which cells are the same, proved by algebra that shares nothing with the graphs

PRIME = (1 << 61) - 1


@cache
def random_function(name, draw, value):
    return int.from_bytes(blake2b(f"{name} {draw} {value}".encode(), digest_size=7).digest(), "big")


def value_of(operation, value, draw, pooling):
    """One edge over the integers modulo a prime: convolutions and pooling are random functions that keep 0."""
    if operation == NONE or value == 0:
        return 0
    if operation == SKIP:
        return value
    if operation == POOL:
        return pooling(value)
    return random_function(operation, draw, value)


def run_cell(cell, draws, pooling=lambda value: random_function("pool", 0, value)):
    """(output, sorted inputs of all ReLUs) of a cell whose edges carry these draws."""
    nodes, read = [12345678901, 0, 0, 0], []
    for edge, (source, target) in enumerate(EDGES):
        operation = cell.operations[edge]
        if operation in KERNELS:
            read.append(nodes[source])
        nodes[target] = (nodes[target] + value_of(operation, nodes[source], draws[edge], pooling)) % PRIME
    return nodes[3], tuple(sorted(read))


def fingerprint(cell, look, **options):
    """What `look` sees of a cell, over every assignment of draws to the convolutions that matter to it.

    Two cells have one fingerprint exactly when some matching of their draws makes them the same function
    (up to collisions of 56-bit hashes): the draws are random functions without any other relation.
    """
    plain = list(range(6))
    seen = look(run_cell(cell, plain, **options))
    relevant = {
        edge
        for edge in range(6)
        if look(run_cell(cell, [*plain[:edge], -1, *plain[edge + 1 :]], **options)) != seen
    }
    groups = [[edge for edge in relevant if cell.operations[edge] == name] for name in KERNELS]
    found = set()
    for first in permutations(groups[0]):
        for second in permutations(groups[1]):
            draws = list(plain)
            for order in (first, second):
                for number, edge in enumerate(order):
                    draws[edge] = number
            found.add(look(run_cell(cell, draws, **options)))
    return tuple(len(group) for group in groups), tuple(sorted(found))


def classes_by(function):
    return {cell: function(cell) for cell in SPACE}


def same_partition(first, second):
    pairs = {(first[cell], second[cell]) for cell in first}
    return len(pairs) == len(set(first.values())) == len(set(second.values()))


def test_live_classes_are_exactly_the_cells_that_compute_the_same():
    algebra = classes_by(lambda cell: fingerprint(cell, lambda seen: seen[0]))
    ours = classes_by(lambda cell: SPACE.canonical(cell, "live"))
    assert same_partition(algebra, ours)
    assert len(set(ours.values())) == 5_260


def test_published_classes_are_exactly_the_cells_whose_output_and_relu_inputs_are_the_same():
    algebra = classes_by(lambda cell: fingerprint(cell, lambda seen: seen))
    ours = classes_by(lambda cell: SPACE.canonical(cell, "all"))
    assert same_partition(algebra, ours)
    assert len(set(ours.values())) == 5_618


def test_linear_pooling_would_merge_216_more_classes_in_exact_arithmetic():
    pooling = {"pooling": lambda value: value * 987_654_321_987 % PRIME}
    representative = set(representatives("live").values())
    assert len({fingerprint(cell, lambda seen: seen[0], **pooling) for cell in representative}) == 5_260 - 216


def test_benchmark_groups_and_ours_cross(accuracies):
    ours = [str(SPACE.canonical(SPACE.parse(text), "live")) for text in accuracies.architecture]
    pairs = pd.DataFrame({"ours": ours, "theirs": accuracies.unique_group})
    assert pairs.theirs.nunique() == 6_466
    assert len(pairs.drop_duplicates()) == 6_900
    assert (pairs.groupby("theirs").ours.nunique() > 1).sum() == 430
    assert (pairs.groupby("ours").theirs.nunique() > 1).sum() == 688


def expression_tree(cell):
    """The cell's output with every convolution expanded: whether a draw is shared is lost."""
    nodes = [(("input",),), (), (), ()]
    for node in (1, 2, 3):
        terms = []
        for edge, source in edges_into(node):
            operation = cell.operations[edge]
            if operation == SKIP:
                terms += nodes[source]
            elif operation != NONE and nodes[source]:
                terms.append((operation, nodes[source]))
        nodes[node] = tuple(sorted(terms, key=repr))
    return nodes[3]


def test_both_partitions_refine_expression_trees(accuracies):
    cells = [SPACE.parse(text) for text in accuracies.architecture]
    trees = pd.Series([expression_tree(cell) for cell in cells])
    ours = [str(SPACE.canonical(cell, "live")) for cell in cells]
    assert trees.nunique() == 4_930
    assert trees.groupby(ours).nunique().max() == 1
    assert trees.groupby(accuracies.unique_group).nunique().max() == 1


def test_published_classes_refine_the_live_ones():
    assert len({(SPACE.canonical(cell, "all"), SPACE.canonical(cell, "live")) for cell in SPACE}) == 5_618


def test_a_representative_represents_itself_and_has_no_dead_edge():
    for representative in set(representatives("live").values()):
        assert SPACE.canonical(representative, "live") == representative
        kept = len(EDGES) - representative.operations.count(NONE)
        for edge in range(6):
            if representative.operations[edge] != NONE:
                without = representative.replace(edge, NONE)
                assert SPACE.canonical(without, "live") != representative or kept == 0


def test_cells_without_a_path_are_one_class_of_341():
    unreached = [cell for cell in SPACE if not computation_graph(cell, "live").output]
    assert len(unreached) == 341
    assert len({SPACE.canonical(cell, "live") for cell in unreached}) == 1


def test_a_cell_and_its_representative_compute_the_same_given_the_same_draws():
    rng = np.random.default_rng(5)
    compared = 0
    for cell in SPACE.sample_distinct(60, rng):
        representative = SPACE.canonical(cell, "live")
        matching = matching_draws(cell, representative)
        first = SPACE.network(cell, SMALL, seed=0)
        second = SPACE.network(representative, SMALL, seed=1)
        state, source = second.state_dict(), first.state_dict()
        for name in state:
            state[name] = source[renamed(name, matching)]
        second.load_state_dict(state)
        first_output, second_output = first(images()), second(images())
        torch.testing.assert_close(first_output, second_output, rtol=1e-4, atol=1e-4)
        compared += cell != representative
    assert compared > 20


def matching_draws(cell, representative):
    """Edge of the representative to the edge of the cell that carries the same draw; all permutations tried."""
    wanted = run_cell(representative, list(range(6)))[0]
    needed = [draw.edge for draw in computation_graph(representative, "live").draws]
    edges = [edge for edge in range(6) if cell.operations[edge] in KERNELS]
    for order in permutations(edges, len(needed)):
        draws = [-1] * 6
        for edge, origin in zip(needed, order, strict=True):
            draws[origin] = edge
        alike = all(
            cell.operations[origin] == representative.operations[edge]
            for edge, origin in zip(needed, order, strict=True)
        )
        if alike and run_cell(cell, draws)[0] == wanted:
            return dict(zip(needed, order, strict=True))
    raise AssertionError(f"no matching of draws makes {cell} compute what {representative} does")


def renamed(name, matching):
    """Parameter name of a representative's edge as the cell's edge that carries the same draw is named."""
    parts = name.split(".")
    if "edges" in parts:
        position = parts.index("edges") + 1
        edge_text, operation = parts[position].split("-")
        edge = EDGES.index(tuple(map(int, edge_text.split("_"))))
        source, target = EDGES[matching.get(edge, edge)]
        parts[position] = f"{source}_{target}-{operation}"
    return ".".join(parts)


# -- plan and network


def relu_inputs_of_network(network, batch):
    found = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, inputs, output: found.append(inputs[0].detach()))
    network.train()
    network(batch)
    return found


def relu_inputs_of_plan(plan, batch, seed):
    found = []
    TorchBackend(torch.device("cpu"), seed).run(
        plan, batch, lambda relu_input, step: found.extend([relu_input] * step.multiplicity)
    )
    return found


@settings(deadline=None, max_examples=40)
@given(cells, st.integers(0, 5))
def test_plan_and_network_agree_activation_by_activation(cell, seed):
    """Every ReLU input of the network as written stands in the plan that counts all, and no other."""
    batch = images()
    plan = SPACE.plan(cell, SMALL, "all")
    of_plan = relu_inputs_of_plan(plan, batch, seed)
    of_network = relu_inputs_of_network(SPACE.network(cell, SMALL, seed), batch)
    zeros = [activation for activation in of_network if not activation.any()]
    assert sum(activation[0].numel() for activation in zeros) == plan.off_units
    rest = [activation for activation in of_network if activation.any()]
    assert len(rest) == len(of_plan)
    for activation in of_plan:
        matches = [
            index
            for index, other in enumerate(rest)
            if other.shape == activation.shape and torch.allclose(other, activation, rtol=1e-4, atol=1e-4)
        ]
        assert matches, "the plan reads an activation that the network does not have"
        del rest[matches[0]]


@given(cells)
def test_live_plan_counts_no_more_relus_than_the_plan_of_all(cell):
    live, everything = (SPACE.plan(cell, SMALL, counting) for counting in ("live", "all"))
    assert live.off_units == 0
    assert relus_counted(live) <= relus_counted(everything)


def relus_counted(plan):
    return sum(step.multiplicity for step in plan.steps if isinstance(step, ReLUCode))


def test_network_takes_other_channels_classes_and_sizes():
    config = NASBench201Config(input_channels=1, image_size=12, classes=7, channels=6, cells=2)
    network = SPACE.network(SPACE.parse(EXAMPLE), config, seed=0)
    assert network(images(channels=1, size=12)).shape == (8, 7)


def test_image_size_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(InputError, match="image_size must be a multiple of 4"):
        NASBench201Config(image_size=30)


def test_weights_are_a_function_of_seed_and_name():
    first, again, other = (SPACE.network(SPACE.parse(EXAMPLE), SMALL, seed) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.stem.weight, other.stem.weight)


def test_weights_of_an_edge_do_not_depend_on_the_rest_of_the_cell():
    name = "cells.0.edges.0_1-nor_conv_3x3.convolution.weight"
    rest = SPACE.parse(EXAMPLE).replace(4, "none")
    networks = [SPACE.network(cell, SMALL, 0) for cell in (SPACE.parse(EXAMPLE), rest)]
    assert torch.equal(*(network.state_dict()[name] for network in networks))


# -- sizes


def test_params_and_flops_equal_the_published_ones_on_all_491_cells(real_data):
    peers = pd.read_parquet(real_data / "nasbench201_peer_scores.parquet")
    configs = {
        "cifar10": NASBench201Config(),
        "ImageNet16-120": NASBench201Config(image_size=16, classes=120),
    }
    assert peers.architecture.nunique() == 491
    for row in peers.itertuples():
        ours = SPACE.complexity(SPACE.parse(row.architecture), configs[row.dataset])
        assert ours.params == round(row.params * 1e6)
        assert ours.flops == round(row.flops * 1e6)


@given(cells)
def test_params_are_those_of_the_network(cell):
    config = NASBench201Config(channels=4, cells=2, image_size=8, classes=3)
    network = SPACE.network(cell, config, seed=0)
    assert SPACE.complexity(cell, config).params == sum(p.numel() for p in network.parameters())


def test_space_is_found_by_name_and_unknown_names_list_what_exists():
    assert isinstance(load_space("nasbench201"), NASBench201)
    with pytest.raises(InputError, match=r"unknown space 'nb201'; allowed: .*nasbench201"):
        load_space("nb201")


def test_settings_of_another_space_are_refused_by_name():
    with pytest.raises(InputError, match=r"nasbench201 has no setting 'layers'; it has .*channels, cells"):
        SPACE.configure(layers=3)
