"""Supernets: one definition for search, training and scoring, and what their alphas mean."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spaces.errors import InputError
from spaces.mixed import MixedOperation, set_skip_dropout
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.nasbench201.cell import EDGES, OPERATIONS
from spaces.nasbench201.supernet import EDGES_INTO_NODES, NASBench201Supernet, standalone_name
from spaces.registry import load_space
from spaces.supernet import Relaxation, Supernet, mixing_weights

SPACE = NASBench201()
CONFIG = NASBench201Config(image_size=8, channels=4, cells=1)
MIXED = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
FAR = 1e4
"""A lead so large that the softmax of the others is exactly 0."""


def supernet(seed: int = 0, config: NASBench201Config = CONFIG, **relaxation: Any) -> NASBench201Supernet:
    return SPACE.supernet(config, Relaxation(**relaxation), seed)


def prefer(network: Supernet[Any], text: str, lead: float = FAR) -> None:
    """Let the alphas name one cell."""
    with torch.no_grad():
        alphas = network.architecture["cell"]
        alphas.zero_()
        for edge, operation in enumerate(SPACE.parse(text).operations):
            alphas[..., edge, OPERATIONS.index(operation)] = lead


def images(count: int = 8, size: int = 8, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 3, size, size), np.float32))


def relu_inputs(network: nn.Module, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the inputs of the batch norms in order: the activations between operations."""
    seen: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for name, module in network.named_modules()
        if name.startswith(("cells", "reductions")) and name.count(".") == 1
    ]
    logits = network(batch)
    for handle in handles:
        handle.remove()
    return logits, seen


class TestOneDefinition:
    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 15624), st.integers(0, 3))
    def test_one_hot_mixture_computes_the_standalone_network_from_the_same_seed(
        self, index: int, seed: int
    ) -> None:
        cell = list(SPACE)[index]
        mixed = supernet(seed)
        prefer(mixed, str(cell))
        logits, activations = relu_inputs(mixed.train(), images())
        expected, standalone = relu_inputs(SPACE.network(cell, CONFIG, seed).train(), images())
        assert len(activations) == len(standalone) == 3 * CONFIG.cells + 2
        for ours, theirs in zip(activations, standalone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)

    def test_one_hot_mixture_with_the_weights_of_a_trained_network_computes_its_logits(self) -> None:
        cell = SPACE.parse(MIXED)
        network = SPACE.network(cell, CONFIG, 7).train()
        mixed = supernet(0).train()
        prefer(mixed, MIXED)
        state = network.state_dict()
        with torch.no_grad():
            for name, parameter in mixed.named_parameters():
                if standalone_name(name) in state:
                    parameter.copy_(state[standalone_name(name)])
        torch.testing.assert_close(mixed(images()), network(images()), rtol=1e-4, atol=1e-4)

    def test_every_weight_of_a_standalone_network_but_the_cells_norms_is_in_the_supernet(self) -> None:
        names = {standalone_name(name) for name, _ in supernet().named_parameters()}
        for name, _ in SPACE.network(SPACE.parse(MIXED), CONFIG, 0).named_parameters():
            assert name in names or (name.startswith("cells") and ".norm." in name)

    def test_batch_norms_of_mixed_operations_have_no_scale(self) -> None:
        norms = [
            module
            for mixed in supernet().modules()
            if isinstance(mixed, MixedOperation)
            for module in mixed.modules()
            if isinstance(module, nn.BatchNorm2d)
        ]
        assert norms
        assert not any(norm.affine or norm.track_running_stats for norm in norms)

    def test_mixture_is_the_weighted_sum_of_single_operations(self) -> None:
        mixed = supernet(3).cells[0].edges["0_1"]
        x, weights = images(4)[:, :1].expand(-1, 4, -1, -1), torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15])
        singles = [mixed(x, one) for one in torch.eye(5)]
        expected = sum(weight * single for weight, single in zip(weights, singles, strict=True))
        torch.testing.assert_close(mixed(x, weights), expected)

    def test_layout_of_the_images_changes_neither_logits_nor_gradients(self) -> None:
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last):
            network = supernet(1).to(memory_format=layout).double()
            logits = network(images().double().to(memory_format=layout))
            gradients.append(torch.autograd.grad(logits.square().sum(), network.alphas())[0])
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*gradients)


class TestAlphas:
    def test_start_as_small_noise_of_the_seed(self) -> None:
        first, again, other = (supernet(seed).architecture["cell"] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.shape == (len(EDGES), len(OPERATIONS))
        assert 0 < first.abs().max() < 1e-2

    def test_are_no_weights(self) -> None:
        network = supernet(edge_normalisation=True)
        weights, alphas = ({id(one) for one in part} for part in (network.weights(), network.alphas()))
        assert len(alphas) == 2
        assert not weights & alphas
        assert len(weights) + len(alphas) == len(list(network.parameters()))

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 15624))
    def test_derive_names_the_strongest_operation_of_every_edge(self, index: int) -> None:
        cell = list(SPACE)[index]
        network = supernet()
        prefer(network, str(cell), lead=0.1)
        assert network.derive() == cell
        assert network.skip_edges(cell) == [
            edge for edge, name in enumerate(cell.operations) if name == "skip_connect"
        ]

    def test_derive_gives_up_the_weakest_skips_first(self) -> None:
        network = supernet()
        prefer(network, ALL_SKIP, lead=1.0)
        with torch.no_grad():
            network.architecture["cell"][:, OPERATIONS.index("skip_connect")] += torch.arange(6.0)
            network.architecture["cell"][:, OPERATIONS.index("nor_conv_3x3")] = 0.5
        derived = network.derive(most_skips=2)
        assert network.skip_edges(derived) == [4, 5]
        assert set(derived.operations[:4]) == {"nor_conv_3x3"}
        assert str(network.derive()) == ALL_SKIP

    def test_derivation_compares_softmax_weights_of_edges_after_normalisation(self) -> None:
        network = supernet(edge_normalisation=True)
        strengths = network.strengths("cell")
        assert strengths.sum(1).split(EDGES_INTO_NODES)[2].sum().item() == pytest.approx(1)

    def test_cells_that_do_not_share_have_alphas_each(self) -> None:
        network = supernet(shared=False)
        assert network.architecture["cell"].shape == (3, len(EDGES), len(OPERATIONS))
        parts = network.mixtures("cell")
        assert [part.operations.shape for part in parts] == [(len(EDGES), len(OPERATIONS))] * 3
        assert not torch.equal(parts[0].operations, parts[2].operations)
        prefer(network, MIXED)
        assert str(network.derive()) == MIXED

    @given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
    def test_max_w_gives_the_strongest_operation_weight_one(self, values: list[float]) -> None:
        alphas = torch.tensor(values, dtype=torch.float64)
        weights, plain = mixing_weights(alphas, "max-w"), mixing_weights(alphas, "softmax")
        assert weights.max().item() == pytest.approx(1)
        torch.testing.assert_close(weights - plain, (1 - plain.max()).expand(len(values)))


class TestRelaxations:
    @pytest.mark.parametrize(
        "options",
        [{"partial": 2, "edge_normalisation": True}, {"weighting": "max-w"}, {"shared": False}, {"partial": 4}],
    )
    def test_gradient_reaches_all_alphas_and_weights(self, options: dict[str, Any]) -> None:
        network = supernet(**options)
        network(images()).square().sum().backward()
        for parameter in (*network.alphas(), *network.weights()):
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0

    def test_skip_dropout_acts_in_training_only_and_can_be_turned_down(self) -> None:
        network = supernet(skip_dropout=0.5)
        prefer(network, ALL_SKIP)
        first, second = network.train()(images()), network(images())
        assert not torch.equal(first, second)
        assert torch.equal(network.eval()(images()), network(images()))
        set_skip_dropout(network, 0.0)
        assert torch.equal(network.train()(images()), network(images()))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"weighting": "hard"}, "unknown weighting 'hard'; allowed: softmax, max-w"),
            ({"partial": 0}, "partial must be at least 1, not 0"),
            ({"skip_dropout": 1.0}, "skip_dropout must be at least 0 and below 1"),
        ],
    )
    def test_value_out_of_range_is_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Relaxation(**options)

    def test_partial_that_does_not_divide_the_channels_is_named(self) -> None:
        with pytest.raises(InputError, match="channels must be a multiple of partial 4, not 6"):
            supernet(config=replace(CONFIG, channels=6), partial=4)

    def test_space_without_a_supernet_says_so(self) -> None:
        space = load_space("torchvision")
        with pytest.raises(InputError, match="space torchvision has no supernet"):
            space.supernet(space.configure(), Relaxation(), 0)


def test_imports_of_the_space_do_not_need_torch(subprocess_modules: Callable[[str], set[str]]) -> None:
    assert "torch" not in subprocess_modules("import spaces.nasbench201")


@pytest.fixture
def subprocess_modules() -> Callable[[str], set[str]]:
    import json
    import subprocess
    import sys

    def modules(statement: str) -> set[str]:
        script = f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"
        return set(json.loads(subprocess.check_output([sys.executable, "-c", script])))

    return modules
