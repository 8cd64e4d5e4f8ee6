"""The HyperCuboid: text, variation, networks, the supernet against its parts, and paths out of its alphas."""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path as FilePath

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from harness.backends.module import module_kernel
from harness.datasets import Images, load_dataset
from harness.progress import NullProgress
from harness.search.base import SearchJob, load_method
from harness.search.table import SearchTable
from harness.store import Store
from spaces.errors import InputError
from spaces.hypercuboid import Axis, HyperCuboid, HyperCuboidConfig, HyperCuboidGrid
from spaces.hypercuboid.extraction import EXTRACTIONS, beam, greedy_bottom_up, greedy_top_down, longest, path_graph
from spaces.hypercuboid.mixed import MixedStep
from spaces.hypercuboid.supernet import HyperCuboidSupernet
from spaces.supernet import Relaxation

SPACE = HyperCuboid()
GRID = HyperCuboidGrid()
SMALL = HyperCuboidConfig(image_size=8, channels=1)
TEXT = "1|sep_conv|2|max_pool|4|sep_conv|4|max_pool|8"
paths = st.integers(0, 2**32).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))
grid_paths = st.integers(0, 2**32).map(lambda seed: GRID.sample(np.random.default_rng(seed)))


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# Text and variation


@given(paths | grid_paths)
def test_parse_inverts_print(path):
    space = SPACE if len(path.steps[0].choice) == 1 else GRID
    assert space.parse(str(path)) == path


def test_text_tells_widths_and_choices_in_turn():
    path = SPACE.parse(TEXT)
    assert path.widths() == [1, 2, 4, 4, 8]
    assert [step.choice for step in path.steps] == [("sep_conv",), ("max_pool",)] * 2
    assert str(path) == TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1|sep_conv|2", r"path '1\|sep_conv\|2' has 3 parts; it needs 9: a width, then primitive and a width"),
        (TEXT.replace("4|max", "3|max"), "width '3' of a path after step 3 is not allowed; allowed: 1, 2, 4, 8"),
        (f"16{TEXT[1:]}", "width '16' of a path after the stem is not allowed; allowed: 1, 2, 4, 8"),
        (
            TEXT.replace("max_pool|8", "skip|8"),
            "primitive 'skip' of step 4 of a path is not allowed; allowed: sep",
        ),
        (TEXT.replace("max_pool|8", "max_pool,3|8"), "step 4 of a path is 'max_pool,3'; expected primitive"),
        ("", "has 1 parts"),
    ],
)
def test_bad_text_is_named(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Axis("colour", (1, 2)),
            "unknown axis 'colour' of a HyperCuboid; allowed: primitive, kernel, dil",
        ),
        (lambda: Axis("kernel", (3, 4)), "axis kernel of a HyperCuboid takes an odd number from 1, not 4"),
        (lambda: Axis("primitive", ("conv",)), "axis primitive .* takes sep_conv or max_pool, not 'conv'"),
        (lambda: Axis("dilation", ()), "axis dilation of a HyperCuboid must have different values"),
        (
            lambda: HyperCuboid(widths=(1, 1)),
            r"widths of a HyperCuboid must be different numbers from 1, not \(1, 1\)",
        ),
        (lambda: HyperCuboid(axes=()), "a HyperCuboid needs one or more axes, each once, not none"),
        (lambda: HyperCuboid(pairs=0), "pairs of steps of a HyperCuboid must be at least 1, not 0"),
        (
            lambda: SPACE.supernet(SMALL, Relaxation(partial=4), 0),
            "a HyperCuboid has no partial channels and no normalised edges",
        ),
    ],
)
def test_bad_declarations_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_size_counts_the_paths():
    small = HyperCuboid(widths=(1, 3), pairs=1)
    everything = list(small)
    assert len(everything) == len(set(everything)) == small.size == 2**3 * 2**2
    assert SPACE.size == 4**5 * 2**4


@settings(max_examples=20)
@given(grid_paths)
def test_neighbours_differ_in_one_width_or_one_value(path):
    neighbours = list(GRID.neighbours(path))
    assert len(set(neighbours)) == len(neighbours) == 5 * 3 + 4 * 4
    for other in neighbours:
        widths = sum(a != b for a, b in zip(path.widths(), other.widths(), strict=True))
        values = sum(
            a != b
            for mine, theirs in zip(path.steps, other.steps, strict=True)
            for a, b in zip(mine.choice, theirs.choice, strict=True)
        )
        assert widths + values == 1
    assert GRID.mutate(path, np.random.default_rng(0)) in neighbours


@settings(max_examples=5, deadline=None)
@given(grid_paths)
def test_paths_with_one_canonical_form_compute_the_same(path):
    canonical = GRID.canonical(path, "live")
    assert GRID.canonical(canonical, "live") == canonical
    assert GRID.complexity(path, SMALL) == GRID.complexity(canonical, SMALL)
    pools = GRID.parse("1|max_pool,3,1,4|1|sep_conv,3,2,4|2|max_pool,5,1,4|2|max_pool,3,2,1|2")
    assert (
        str(GRID.canonical(pools, "live"))
        == "1|max_pool,3,1,1|1|sep_conv,3,2,4|2|max_pool,5,1,1|2|max_pool,3,1,1|2"
    )


def test_the_hand_made_path_doubles_at_every_reduction():
    assert str(SPACE.doubling()) == "1|sep_conv|1|sep_conv|2|sep_conv|2|sep_conv|4"


# Networks


@settings(max_examples=6, deadline=None)
@given(grid_paths, st.sampled_from((8, 9)))
def test_complexity_counts_the_parameters_of_the_network(path, size):
    config = HyperCuboidConfig(image_size=size, channels=2, classes=3)
    network = GRID.network(path, config, 0)
    assert GRID.complexity(path, config).params == parameters(network)
    assert network(images(2, size)).shape == (2, 3)


def test_the_last_convolution_has_the_published_width():
    network = SPACE.network(SPACE.doubling(), HyperCuboidConfig(image_size=8), 0)
    assert network.classifier.in_features == 768


def test_paths_that_share_a_step_share_its_weights_and_all_of_an_input_its_depthwise():
    first = SPACE.network(SPACE.parse(TEXT), SMALL, 0).state_dict()
    other = SPACE.network(SPACE.parse(TEXT.replace("1|sep_conv|2|", "1|sep_conv|8|")), SMALL, 0).state_dict()
    shared = [name for name in first if name in other and ("pointwise" in name or "depthwise" in name)]
    assert any(name.startswith("steps.2") for name in shared)
    assert all(torch.equal(first[name], other[name]) for name in shared)
    to_2, to_8 = (f"steps.0.1-{width}-sep_conv-k3-d1-m1.first_depthwise.weight" for width in (2, 8))
    assert torch.equal(first[to_2], other[to_8])


def test_naswot_sees_two_relus_of_every_convolution():
    path = SPACE.parse("1|sep_conv|2|max_pool|1|max_pool|1|max_pool|1")
    kernel = module_kernel(SPACE.network(path, SMALL, 0), images())
    assert (kernel.diagonal() == 64 * (1 + 2) + 4 * (1 + 24)).all()


# The supernet


def supernet(space=SPACE, config=SMALL, seed=3, **relaxation):
    network = space.supernet(config, Relaxation(**relaxation), seed)
    assert isinstance(network, HyperCuboidSupernet)
    return network


def one_hot(network, path):
    """Alphas that put all weight on a path."""
    grid = network.grid
    places = [grid.widths.index(width) for width in path.widths()]
    for number, step in enumerate(path.steps):
        kind = ("normal", "reduce")[number % 2]
        alphas = network.architecture[kind].data[number // 2]
        alphas.fill_(-1e9)
        edge = places[number] * len(grid.widths) + places[number + 1]
        alphas[edge, grid.choices.index(step.choice)] = 0


def test_alphas_have_the_stated_shape():
    assert supernet().hypercuboid.shape == (2, 2, 4, 4, 2)
    small = HyperCuboid(widths=(1, 2), axes=(Axis("kernel", (1, 3, 5)), Axis("dilation", (1, 2))), pairs=1)
    network = supernet(small)
    assert network.hypercuboid.shape == small.grid.shape == (2, 1, 2, 2, 3, 2)
    network.architecture["reduce"].data[0, 1, 4] = 7  # widths 1 to 2, kernel 5, dilation 1
    assert network.hypercuboid[1, 0, 0, 1, 2, 0] == 7


@settings(max_examples=3, deadline=None)
@given(paths)
def test_one_hot_supernet_is_the_standalone_network(path):
    path = SPACE.parse(str(path).replace("max_pool", "sep_conv"))
    network = supernet()
    one_hot(network, path)
    assert network.derive() == path
    with torch.no_grad():
        found, expected = network(images()), SPACE.network(path, SMALL, 3)(images())
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_step_is_the_weighted_sum_of_its_operations(stride):
    shapes = [GRID.grid.step_shape(choice) for choice in GRID.grid.choices]
    step = MixedStep((1, 3), shapes, 2, stride).double()
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, channels, 6, 6, dtype=torch.float64, generator=generator) for channels in (2, 6)]
    weights = torch.rand(2, 2, len(shapes), dtype=torch.float64, generator=generator).requires_grad_()
    expected = [torch.zeros(())] * 2
    operations = iter(step.operations.values())
    for source, target, choice in product(range(2), range(2), range(len(shapes))):
        term = weights[source, target, choice] * next(operations)(maps[source])
        expected[target] = expected[target] + term
    found = step(maps, weights)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    gradients = [
        torch.autograd.grad(sum(part.pow(3).sum() for part in parts), [weights, *step.parameters()])
        for parts in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_grid_of_pools_alone_has_gradients():
    pools = HyperCuboid(axes=(Axis("primitive", ("max_pool",)), Axis("kernel", (1, 3))), pairs=1)
    network = supernet(pools)
    network(images()).square().sum().backward()
    assert all((alpha.grad != 0).any() for alpha in network.alphas())


def test_layout_of_the_images_changes_no_gradient():
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = supernet(weighting="max-w").to(memory_format=layout).double()
        logits = network(images().double().to(memory_format=layout))
        gradients.append(torch.autograd.grad(logits.square().sum(), network.alphas())[0])
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("weighting", ["softmax", "max-w"])
def test_one_softmax_goes_over_a_whole_step(weighting):
    network = supernet(weighting=weighting)
    network.architecture["normal"].data.normal_(generator=torch.Generator().manual_seed(1))
    for step, alphas in zip(network.mixtures("normal"), network.architecture["normal"], strict=True):
        probabilities = F.softmax(alphas.flatten(), 0).view(4, 4, 2)
        if weighting == "max-w":
            probabilities = 1 - probabilities.max() + probabilities
        assert torch.allclose(step.operations, probabilities)


# Paths out of alphas

# The strongest first edge leads to weak ones: numbers that tell the rules apart.
LURES = np.array([[[0.0, 0.9], [0.5, 0.0]], [[0.6, 0.5], [0.1, 0.0]], [[0.4, 0.0], [0.0, 0.8]]])


def best_by_brute_force(strengths):
    def total(places):
        return sum(strengths[step, a, b] for step, (a, b) in enumerate(pairwise(places)))

    return max(product(range(strengths.shape[1]), repeat=len(strengths) + 1), key=total)


def places(nodes):
    assert [step for step, _ in nodes] == list(range(len(nodes)))
    return tuple(place for _, place in nodes)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_the_longest_path_is_the_best_of_all(seed, steps, widths):
    strengths = np.random.default_rng(seed).random((steps, widths, widths))
    best = best_by_brute_force(strengths)
    assert places(longest(path_graph(strengths))) == best
    assert places(beam(path_graph(strengths), widths**steps)) == best


def test_greedy_paths_begin_with_the_strongest_edge_of_their_end():
    graph = path_graph(LURES)
    assert places(longest(graph)) == (1, 0, 1, 1)
    assert places(greedy_top_down(graph)) == (0, 1, 0, 0)
    assert places(greedy_bottom_up(graph)) == (1, 0, 1, 1)
    assert places(greedy_bottom_up(path_graph(LURES[::-1].transpose(0, 2, 1)))) == (0, 0, 1, 0)


def test_a_longest_path_is_whole_even_where_nothing_is_strong():
    graph = path_graph(np.zeros((3, 2, 2)))
    assert nx.is_directed_acyclic_graph(graph)
    assert len(longest(graph)) == 4


def test_every_rule_names_a_path_of_the_space():
    network = supernet(GRID, HyperCuboidConfig(image_size=4, channels=1))
    found = network.paths()
    assert set(found) == set(EXTRACTIONS)
    assert all(GRID.parse(str(path)) == path for path in found.values())
    assert found["longest"] == network.derive(most_skips=0)


# Searches


def test_a_search_by_either_weighting_ends_with_a_path(tmp_path: FilePath) -> None:
    dataset = load_dataset("digits", image_size=8)
    few = replace(dataset, train=Images(dataset.train.labels[:64], dataset.train.fetch))
    config = HyperCuboidConfig(input_channels=1, image_size=8, channels=1)
    found_alphas = {}
    for weighting in ("softmax", "max-w"):
        method = load_method("dhgs", {"epochs": 2, "batch_size": 16, "weighting": weighting, "cutout": 4})
        with Store(tmp_path / f"{weighting}.sqlite") as store:
            found = method.run(SearchJob(SPACE, config, few, 0, "cpu", store, tmp_path), NullProgress())
            epochs = SearchTable(store).epochs(1)
        assert str(SPACE.parse(found.architecture)) == found.architecture
        assert np.shape(epochs[0].alphas["normal"]) == (2, 16, 2)
        found_alphas[weighting] = epochs[1].alphas
    assert found_alphas["softmax"] != found_alphas["max-w"]


def test_a_cutout_that_hides_every_image_is_refused(tmp_path: FilePath) -> None:
    config = HyperCuboidConfig(input_channels=1, image_size=8, channels=1)
    digits = load_dataset("digits", image_size=8)
    with (
        Store(tmp_path / "s.sqlite") as store,
        pytest.raises(
            InputError, match=r"cutout 16 of .* hides all of every image of 8 pixels a side; give a smaller"
        ),
    ):
        load_method("dhgs", {}).run(SearchJob(SPACE, config, digits, 0, "cpu", store, tmp_path), NullProgress())
