"""The DARTS space: text, variation, equality, networks, supernet, and what published files say of them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.backends.module import module_kernel
from spaces.darts import DARTS, DARTSConfig, Genotype, sample_size
from spaces.darts.config import NDS_DEPTHS, NDS_WIDTHS
from spaces.darts.genotype import (
    INPUTS,
    NONE,
    OPERATIONS,
    Edge,
    canonical_cell,
    edges_into,
    sample_cell,
)
from spaces.darts.supernet import EDGES, standalone_name
from spaces.errors import InputError
from spaces.mixed import MixedOperation, Source, set_skip_dropout, shuffle_channels
from spaces.operations import (
    DilatedConv,
    NormalisedPool,
    ReLUConvBN,
    SqueezeExcitation,
    join_phases,
    max_pool_3x3,
    split_phases,
)
from spaces.supernet import Relaxation

SPACE = DARTS()
SMALL = DARTSConfig(image_size=8, channels=2, cells=3)
EVALUATION = DARTSConfig(channels=36, cells=20)
V2 = SPACE.parse("DARTS_V2")
genotypes = st.integers(0, 2**32).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def edited(genotype, kind, place, edge):
    cells = {name: list(cell) for name, cell in genotype.cells().items()}
    cells[kind][place] = edge
    return Genotype(**{name: tuple(cell) for name, cell in cells.items()})


# Text


@given(genotypes)
def test_parse_inverts_print(genotype):
    assert SPACE.parse(str(genotype)) == genotype


@given(genotypes)
def test_both_notations_give_the_same_genotype(genotype):
    assert SPACE.parse(json.dumps(genotype.cells())) == genotype
    assert SPACE.parse(str(genotype).replace("[2, 3, 4, 5]", "range(2, 6)")) == genotype


def test_text_is_the_authors_notation():
    assert str(V2) == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
        "normal_concat=[2, 3, 4, 5], "
        "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
        "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    )


TEXT = str(V2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DARTS_V3", "cannot be read; expected DARTS_V1, DARTS_V2"),
        ("Genotype(normal=[", "cannot be read"),
        ("__import__('os').system('true')", "cannot be read"),
        ("{'normal': 1}", "is not JSON"),
        ("Genotype([], [])", "need their names"),
        ("Genotype(normal=open('x'), reduce=[])", r"normal of a genotype is .*; expected a list"),
        ("Genotype(normal=[])", "normal cell of a genotype has 0 edges; it needs 8|has no reduce cell"),
        ("Genotype(weird=[])", "field 'weird'; allowed: normal"),
        (TEXT.replace("normal=[('sep_conv_3x3', 0), ", "normal=["), "normal cell of a genotype has 7 edges"),
        (TEXT.replace("dil_conv_3x3", "conv_7x7"), "unknown operation 'conv_7x7' into node 5 of the normal cell"),
        (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"), "input 5 .* node 5 .* must be 0 to 4"),
        (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"), "input True"),
        (TEXT.replace("('dil_conv_3x3', 2)", "'dil_conv_3x3'"), r"must be \(operation, input\)"),
        (TEXT.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=[4, 5]"), "reduce_concat .* concatenates"),
        (TEXT.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(9**20)"), "reduce_concat"),
    ],
)
def test_bad_text_is_named(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_cell_without_a_path_is_named(kind):
    cell = (Edge(NONE, 0), Edge(NONE, 1), *[Edge("skip_connect", 2), Edge(NONE, 0)] * 3)
    genotype = Genotype(**{**V2.cells(), kind: cell})
    assert SPACE.parse(str(genotype)) == genotype
    with pytest.raises(InputError, match=f"the {kind} cell has no path from its inputs to its output"):
        SPACE.network(genotype, SMALL, 0)


# Variation


@given(genotypes)
def test_sampled_nodes_read_two_sources(genotype):
    for cell in genotype.cells().values():
        for node, (first, second) in edges_into(cell):
            assert first.source < second.source < node
        assert all(edge.operation != NONE for edge in cell)


def test_sampling_is_uniform_over_the_sources_of_a_node():
    rng = np.random.default_rng(0)
    pairs = [tuple(edge.source for edge in sample_cell(rng)[-2:]) for _ in range(3000)]
    counts = pd.Series(pairs).value_counts()
    assert len(counts) == 10
    assert counts.between(220, 380).all()


@settings(max_examples=20)
@given(genotypes)
def test_neighbours_are_120_and_differ_in_one_edge(genotype):
    neighbours = list(SPACE.neighbours(genotype))
    assert len(set(neighbours)) == len(neighbours) == 120
    for neighbour in neighbours:
        pairs = zip(genotype.normal + genotype.reduce, neighbour.normal + neighbour.reduce, strict=True)
        assert sum(one != other for one, other in pairs) == 1
        assert SPACE.parse(str(neighbour)) == neighbour
        assert all(one.source != other.source for _, (one, other) in edges_into(neighbour.normal))


def test_mutation_is_a_neighbour():
    assert SPACE.mutate(V2, np.random.default_rng(0)) in set(SPACE.neighbours(V2))


# Equality


def swapped_nodes(cell):
    """The cell with its last two nodes in the other order, where that is possible."""
    renamed = {4: 5, 5: 4}
    order = [*cell[:4], *cell[6:], *cell[4:6]]
    return tuple(Edge(operation, renamed.get(source, source)) for operation, source in order)


@given(genotypes)
def test_order_of_edges_does_not_matter(genotype):
    turned = tuple(
        edge for place in range(0, 8, 2) for edge in (genotype.normal[place + 1], genotype.normal[place])
    )
    assert canonical_cell(turned) == canonical_cell(genotype.normal)


@given(genotypes)
def test_order_of_independent_nodes_does_not_matter(genotype):
    cell = genotype.normal
    if all(edge.source != 4 for edge in cell[6:]):
        assert canonical_cell(swapped_nodes(cell)) == canonical_cell(cell)


@given(genotypes)
def test_canonical_form_is_one_of_its_class(genotype):
    canonical = SPACE.canonical(genotype, "live")
    assert SPACE.canonical(canonical, "live") == canonical
    assert SPACE.complexity(canonical, SMALL) == SPACE.complexity(genotype, SMALL)


def test_order_of_edges_changes_no_bit():
    turned = edited(edited(V2, "normal", 0, V2.normal[1]), "normal", 1, V2.normal[0])
    one, other = (SPACE.network(genotype, SMALL, 0)(images()) for genotype in (V2, turned))
    assert torch.equal(one, other)


def test_permuted_nodes_compute_the_same_with_permuted_weights():
    """Renaming two nodes is undone by moving their channels in all that reads the concatenation."""
    permuted = Genotype(swapped_nodes(V2.normal), V2.reduce)
    network, other = (SPACE.network(genotype, SMALL, 0) for genotype in (V2, permuted))
    renamed = {"4": "5", "5": "4"}
    state = network.state_dict()
    for name in other.state_dict():
        parts = name.split(".")
        if parts[2:3] == ["edges"] and int(parts[1]) == 0:
            source, target = parts[3].split("-")[0].split("_")
            edge = f"{renamed.get(source, source)}_{renamed.get(target, target)}"
            parts[3] = f"{edge}-{parts[3].split('-')[1]}"
        other.state_dict()[name].copy_(state[".".join(parts)])
    width = SMALL.channels
    order = [*range(2 * width), *range(3 * width, 4 * width), *range(2 * width, 3 * width)]
    for cell, place in ((1, 1), (2, 0)):
        reading = other.cells[cell].preprocessing[place]
        for convolution in (reading.convolution,) if place else (reading.even, reading.odd):
            convolution.weight.data = convolution.weight.data[:, order]
    assert torch.allclose(network(images()), other(images()), atol=1e-5)


# Networks


def test_published_parameter_counts():
    assert SPACE.complexity(V2, EVALUATION).params == 3_349_342
    assert SPACE.complexity(SPACE.parse("DARTS_V1"), EVALUATION).params == 3_169_414


def test_imagenet_network_has_the_published_size():
    config = DARTSConfig(channels=48, cells=14, stem="imagenet", image_size=224, classes=1000)
    assert round(SPACE.complexity(V2, config).params / 1e6, 1) == 4.7


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("cells", [1, 2, 5])
def test_complexity_counts_the_parameters_of_the_network(stem, cells):
    config = DARTSConfig(image_size=32, channels=4, cells=cells, stem=stem)
    genotype = SPACE.sample(np.random.default_rng(cells))
    network = SPACE.network(genotype, config, 0)
    assert (
        sum(parameter.numel() for parameter in network.parameters()) == SPACE.complexity(genotype, config).params
    )
    assert network(images(2, 32)).shape == (2, 10)


def test_published_parameters_and_operations_agree(real_data):
    """NASLib's networks have no scale and shift on edges, and a batch norm of 1 an element after each pool."""
    table = pd.read_parquet(real_data / "darts_nasbench301_peer_scores.parquet")
    config = DARTSConfig(channels=32, cells=8)
    for row in table.itertuples():
        genotype = SPACE.parse(row.genotype)
        counted = SPACE.complexity(genotype, config)
        norms = pools = channels = 0
        for shape in config.shapes():
            for operation, source in genotype.cells()[shape.kind]:
                halves = shape.kind == "reduce" and source < INPUTS
                count = {"sep": 2, "dil": 1, "ski": int(halves)}.get(operation[:3], 0)
                channels += count * shape.channels
                norms += count * shape.channels * shape.size**2
                pools += ("pool" in operation) * shape.channels * shape.size**2
        assert round(row.params * 1e6) == counted.params - 2 * channels
        assert round(row.flops * 1e6) == counted.flops - norms + pools


def test_genotypes_that_share_an_edge_share_its_weights():
    other = edited(V2, "normal", 7, Edge("sep_conv_5x5", 2))
    one, two = (dict(SPACE.network(genotype, SMALL, 5).named_parameters()) for genotype in (V2, other))
    shared = set(one) & set(two)
    assert {name for name in one if name not in shared} == {name for name in one if "2_5-dil_conv_3x3" in name}
    assert all(torch.equal(one[name], two[name]) for name in shared)


def test_twin_edges_have_weights_of_their_own():
    twins = edited(V2, "normal", 1, V2.normal[0])
    weights = dict(SPACE.network(twins, SMALL, 0).named_parameters())
    name = "cells.0.edges.0_2-sep_conv_3x3{}.first_pointwise.weight"
    assert not torch.equal(weights[name.format("")], weights[name.format("-2")])


def test_node_of_none_is_zero():
    genotype = Genotype((*V2.normal[:6], Edge(NONE, 0), Edge(NONE, 1)), V2.reduce)
    cell = SPACE.network(genotype, SMALL, 0).cells[0]
    output = cell(images(size=8).repeat(1, 2, 1, 1), images(size=8).repeat(1, 2, 1, 1))
    assert (output[:, -SMALL.channels :] == 0).all()
    assert (output[:, : -SMALL.channels] != 0).any()


def test_auxiliary_head_speaks_in_training_alone():
    network = SPACE.network(V2, DARTSConfig(channels=2, cells=3, auxiliary=True), 0)
    logits, auxiliary = network(images(2, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert network.eval()(images(2, 32)).shape == (2, 10)


def test_auxiliary_head_is_not_scored():
    kernels = [
        module_kernel(SPACE.network(V2, DARTSConfig(channels=2, cells=3, auxiliary=auxiliary), 0), images(4, 32))
        for auxiliary in (False, True)
    ]
    assert (kernels[0] == kernels[1]).all()


def test_drop_path_spares_identities_and_evaluation():
    network = SPACE.network(V2, SMALL, 0)
    with torch.no_grad():
        plain = network(images())
        network.drop_path = 0.5
        assert network.drop_path == 0.5
        assert not torch.equal(network(images()), plain)
        network.drop_path = 0.0
        assert torch.equal(network(images()), plain)
    skips = tuple(Edge("skip_connect", source) for source in (0, 1) * 4)
    cell = SPACE.network(Genotype(skips, V2.reduce), SMALL, 0).cells[0]
    cell.drop_path.probability = 0.9
    wide = images().repeat(1, 2, 1, 1)
    assert torch.equal(cell(wide, wide), cell(wide, wide))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, "image_size must be a multiple of 4"),
        ({"stem": "imagenet", "image_size": 40}, "multiple of 32 for darts with the imagenet stem"),
        ({"stem": "resnet"}, "unknown stem 'resnet'; allowed: cifar, imagenet"),
        ({"channels": 3}, "channels must be even"),
        ({"cells": 0}, "cells must be at least 1"),
        ({"auxiliary": True, "image_size": 16}, "image_size must be 32 to 40 for the auxiliary head"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        DARTSConfig(**settings)


def test_sizes_are_drawn_as_in_nds():
    drawn = {sample_size(SMALL, np.random.default_rng(seed)) for seed in range(200)}
    assert {(config.channels, config.cells) for config in drawn} == {
        (width, depth) for width in NDS_WIDTHS for depth in NDS_DEPTHS
    }


def test_every_genotype_of_the_trained_table_is_a_network_or_a_reason(real_data):
    table = pd.read_parquet(real_data / "darts_trained_accuracy.parquet")
    for text in table.genotype[:40]:
        network = SPACE.network(SPACE.parse(text), SMALL, 0)
        assert torch.isfinite(network(images())).all()


# Supernet


def one_hot(supernet, genotype):
    """Alphas that put all weight on the edges of a genotype and on `none` elsewhere."""
    for kind, cell in genotype.cells().items():
        alphas = torch.full((len(EDGES), len(supernet.operations)), -1e9)
        alphas[:, 0] = 0
        for place, edge in enumerate(cell):
            row = EDGES.index((edge.source, place // 2 + INPUTS))
            alphas[row, 0] = -1e9
            alphas[row, supernet.operations.index(edge.operation)] = 0
        supernet.architecture[kind].data = alphas


def without_pools(genotype):
    """A supernet normalises its pools, the standalone network does not."""
    return Genotype(
        *(
            tuple(edge._replace(operation="sep_conv_3x3") if "pool" in edge.operation else edge for edge in cell)
            for cell in genotype.cells().values()
        )
    )


@settings(max_examples=5, deadline=None)
@given(genotypes.map(without_pools))
def test_one_hot_supernet_is_the_standalone_network(genotype):
    supernet = SPACE.supernet(SMALL, Relaxation(), 3)
    one_hot(supernet, genotype)
    network = SPACE.network(genotype, SMALL, 3)
    with torch.no_grad():
        assert torch.allclose(supernet(images()), network(images()), atol=1e-5)
    names = {standalone_name(name) for name, _ in supernet.named_parameters()}
    assert {name for name, _ in network.named_parameters() if "norm" not in name} <= names


def test_derivation_takes_the_two_strongest_edges_of_distinct_sources():
    supernet = SPACE.supernet(SMALL, Relaxation(), 0)
    one_hot(supernet, V2)
    derived = supernet.derive()
    assert canonical_cell(derived.normal) == canonical_cell(V2.normal)
    assert canonical_cell(derived.reduce) == canonical_cell(V2.reduce)
    assert sorted(supernet.skip_edges(derived)) == [EDGES.index((0, 4)), EDGES.index((0, 5))]


def test_derivation_weighs_none_within_the_softmax():
    """The published counterexample: raw alphas would keep the second edge, softmax keeps the first."""
    supernet = SPACE.supernet(SMALL, Relaxation(), 0)
    alphas = torch.zeros(len(EDGES), len(OPERATIONS))
    for source, (background, strongest) in enumerate(((1.0, 5.0), (10.0, 11.0), (10.0, 15.0))):
        row = EDGES.index((source, 3))
        alphas[row] = background
        alphas[row, OPERATIONS.index("skip_connect")] = strongest
    supernet.architecture["normal"].data = alphas
    assert [edge.source for edge in supernet.derive().normal[2:4]] == [2, 0]


@pytest.mark.parametrize(
    "relaxation",
    [Relaxation(weighting="max-w"), Relaxation(partial=2, edge_normalisation=True), Relaxation(shared=False)],
    ids=str,
)
def test_every_relaxation_gives_gradients_to_all_alphas(relaxation):
    supernet = SPACE.supernet(DARTSConfig(image_size=8, channels=4, cells=3), relaxation, 0)
    supernet(images()).square().sum().backward()
    assert all((alpha.grad != 0).any() for alpha in supernet.alphas())
    assert isinstance(supernet.derive(), Genotype)


# Squeeze-and-excitation


def test_squeeze_excitation_gates_every_cell_and_is_counted():
    plain, gated = (
        DARTSConfig(image_size=16, channels=8, cells=3, squeeze_excitation=chosen) for chosen in (False, True)
    )
    genotype = SPACE.parse("DARTS_V2")
    network = SPACE.network(genotype, gated, 0)
    gates = [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
    assert len(gates) == 3
    more = SPACE.complexity(genotype, gated).params - SPACE.complexity(genotype, plain).params
    assert more == sum(parameter.numel() for gate in gates for parameter in gate.parameters())
    assert sum(p.numel() for p in network.parameters()) == SPACE.complexity(genotype, gated).params


def test_squeeze_excitation_shrinks_channels_by_what_their_means_say():
    gate, x = SqueezeExcitation(32), torch.randn(2, 32, 4, 4)
    shares = gate(x) / x
    assert torch.allclose(shares, shares[:, :, :1, :1].expand_as(shares), atol=1e-5)
    assert ((shares > 0) & (shares < 1)).all()
    assert not torch.allclose(shares[0], shares[1])


# The mixed operation


def mixed(**options):
    width = 4 // options.get("partial", 1)
    modules = {
        "none": None,
        "skip": nn.Identity(),
        "conv": ReLUConvBN(width, width, 3, affine=False),
        "pool": NormalisedPool(max_pool_3x3(), width),
    }
    torch.manual_seed(0)
    return MixedOperation(modules, **options)


def test_mixed_operation_is_the_weighted_sum():
    operation, x = mixed(), torch.randn(3, 4, 6, 6)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], requires_grad=True)
    parts = [module(x) for module in operation.operations.values()]
    expected = sum(weight * part for weight, part in zip(weights[1:], parts, strict=True))
    found = operation(x, weights)
    assert torch.allclose(found, expected, atol=1e-6)
    gradients = [
        torch.autograd.grad(value.square().sum(), weights, retain_graph=True)[0] for value in (found, expected)
    ]
    assert torch.allclose(*gradients, rtol=1e-4)


def test_edges_of_one_source_mix_as_if_each_read_a_tensor_of_its_own():
    operation, x = mixed(), torch.randn(3, 4, 6, 6)
    source, weights = Source(x), torch.tensor([0.4, 0.3, 0.2, 0.1])
    other = mixed()
    assert torch.equal(operation(source, weights), operation(x, weights))
    assert torch.equal(other(source, weights.flip(0)), other(x, weights.flip(0)))


@pytest.mark.parametrize("kernel", [3, 5])
def test_dilated_convolution_of_phases_is_that_of_the_whole(kernel):
    operation = DilatedConv(4, kernel, affine=False).double()
    x = torch.randn(2, 4, 8, 12, dtype=torch.float64, requires_grad=True)
    whole, parts = operation.body(x), join_phases(operation.body_of_phases(split_phases(x)))
    assert torch.allclose(whole, parts)
    gradients = [
        torch.autograd.grad(value.square().sum(), [x, *operation.parameters()], retain_graph=True)
        for value in (whole, parts)
    ]
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


def test_partial_channels_pass_by_unchanged():
    operation, x = mixed(partial=2), torch.randn(3, 4, 6, 6)
    found = operation(x, torch.full((4,), 0.25))
    assert torch.equal(found[:, 1::2], x[:, 2:])
    assert found.shape == x.shape


def test_shuffle_interleaves_the_groups():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_skip_dropout_acts_on_identities_in_training():
    operation, x = mixed(skip_dropout=0.5), torch.ones(3, 4, 6, 6)
    only_skip = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert (operation(x, only_skip) == 0).any()
    set_skip_dropout(operation, 0.0)
    assert torch.allclose(operation(x, only_skip), x)
    set_skip_dropout(operation, 0.5)
    assert torch.allclose(operation.eval()(x, only_skip), x)
