"""Every scorer against its definition written plainly, and on networks that are none of the usual."""

import gc
import math
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.backends.torch_backend import TorchBackend
from harness.datasets import Batch, draw_batch, load_dataset, own_batch
from harness.scorers.base import Family, Score, load_scorer, scorer_names, shared_pass
from harness.scorers.codes import SWAP, LinearRegions, packed
from harness.scorers.jacobian import EPENAS, InputGradients
from harness.scorers.meco import smallest_eigenvalue
from harness.scorers.zen import features
from harness.scorers.zico import stability
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config

SPACE = NASBench201()
CONFIG = NASBench201Config(input_channels=1, image_size=8, channels=4, cells=1)
BACKEND = TorchBackend(torch.device("cpu"), seed=0)
CELL = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|")
NO_PATH = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|")
ONLY_POOLS = SPACE.parse("|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|")
ONLY_SKIP = SPACE.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
WITHOUT_WEIGHTS = {"jacov", "epe_nas", "meco", "swap", "linear_regions"}
ON_NETWORKS = [name for name in scorer_names() if load_scorer(name).reads == "network"]


@pytest.fixture(scope="module")
def batch() -> Batch:
    return draw_batch(load_dataset("digits", image_size=8), 16, seed=0)


def network(cell=CELL) -> nn.Module:
    return SPACE.network(cell, CONFIG, seed=0)


def score(name: str, module: nn.Module, batch: Batch) -> Score:
    return load_scorer(name).score(module, batch, BACKEND)


def value(name: str, module: nn.Module, batch: Batch) -> float:
    found = score(name, module, batch)
    assert found.reason is None
    return found.value


def layers_of(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


# -- what every scorer says and keeps


@pytest.mark.parametrize("name", scorer_names())
def test_each_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    scorer = load_scorer(name)
    assert scorer.name == name
    assert scorer.description
    assert scorer.source
    assert scorer.cost
    assert scorer.higher_is_better == (name != "ntk")


@pytest.mark.parametrize("name", ON_NETWORKS)
def test_the_network_is_left_as_it_was(name: str, batch: Batch) -> None:
    module = network()
    module.eval()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    first = score(name, module, batch)
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert score(name, module, batch) == first


def test_no_feature_map_outlives_its_score(batch: Batch) -> None:
    """Hooks and graphs that hold each other are out of the garbage collector's reach."""
    maps: dict[str, list[weakref.ref[torch.Tensor]]] = {name: [] for name in ON_NETWORKS}
    for name, seen in maps.items():
        module = network()
        for part in module.modules():
            part.register_forward_hook(lambda _part, _inputs, output, seen=seen: seen.append(weakref.ref(output)))
        score(name, module, batch)
    gc.collect()
    assert all(seen for name, seen in maps.items() if name != "l2_norm")
    assert {name for name, seen in maps.items() if any(seen_map() is not None for seen_map in seen)} == set()


@pytest.mark.parametrize("name", ON_NETWORKS)
@pytest.mark.parametrize("cell", [NO_PATH, ONLY_POOLS, ONLY_SKIP], ids=["no path", "pools", "skip"])
def test_degenerate_cells_have_a_value_or_a_reason(name: str, cell, batch: Batch) -> None:
    found = score(name, network(cell), batch)
    assert (found.value is None) == bool(found.reason)


@pytest.mark.parametrize("name", ON_NETWORKS)
def test_a_network_without_parameters_has_a_value_or_a_named_reason(name: str, batch: Batch) -> None:
    pools = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())
    if name in WITHOUT_WEIGHTS:
        found = score(name, pools, batch)
        assert (found.value is None) == bool(found.reason)
    else:
        with pytest.raises(InputError, match=r"no convolution or linear layer|no weights, so no tangent kernel"):
            score(name, pools, batch)


@pytest.mark.parametrize("name", ["snip", "fisher", "grasp", "jacov", "zico", "ntk", "swap", "synflow", "depth"])
def test_rectifiers_in_place_change_nothing(name: str, batch: Batch) -> None:
    def convolutional(in_place: bool) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.ReLU(in_place), nn.Conv2d(1, 4, 3), nn.ReLU(in_place), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
            nn.ReLU(in_place), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
        )  # fmt: skip

    images = batch.images.clone()
    assert value(name, convolutional(True), batch) == pytest.approx(value(name, convolutional(False), batch))
    assert torch.equal(images, batch.images)


@pytest.mark.parametrize(
    "name",
    [name for name in ON_NETWORKS if load_scorer(name).counting == "live" and not name.startswith("az_")],
)
def test_a_dead_branch_adds_nothing_to_what_sees_the_function(name: str, batch: Batch) -> None:
    dead_branch = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    without = SPACE.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    alone = value(name, network(without), batch)
    assert value(name, network(dead_branch), batch) == pytest.approx(alone, rel=1e-5)
    assert value("l2_norm", network(dead_branch), batch) > value("l2_norm", network(without), batch) + 1


def test_layers_that_no_definition_covers_are_named(batch: Batch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.scale * self.head(images.flatten(1))

    with pytest.raises(InputError, match="parameter scale belongs to a Scaled"):
        score("snip", Scaled(), batch)
    frozen = network()
    frozen.classifier.weight.requires_grad_(False)
    with pytest.raises(InputError, match="the weight of layer classifier is frozen"):
        score("grasp", frozen, batch)
    few = SPACE.network(CELL, NASBench201Config(1, 8, 3, channels=4, cells=1), 0)
    with pytest.raises(InputError, match="has no logit: the network returns 3"):
        score("snip", few, batch)


# -- counts


def test_counts_are_those_of_the_space_or_of_the_module(batch: Batch) -> None:
    complexity = SPACE.complexity(CELL, CONFIG)
    assert load_scorer("params").score(complexity, batch, BACKEND) == Score(complexity.params)
    assert load_scorer("flops").score(complexity, batch, BACKEND) == Score(complexity.flops)
    assert value("params", network(), batch) == complexity.params
    assert value("flops", nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), batch) == 640


def test_depth_counts_the_layers_that_the_output_depends_on(batch: Batch) -> None:
    assert value("depth", network(ONLY_SKIP), batch) == 1 + 2 * 3 + 1
    assert value("depth", network(CELL), batch) == 1 + 2 * 3 + 3 * 3 + 1
    assert value("depth", network(NO_PATH), batch) == 1


def test_parameters_and_flops_are_the_published_ones_and_so_is_l2_norm(real_data: Path, batch: Batch) -> None:
    peers = pd.read_parquet(real_data / "nasbench201_peer_scores.parquet")
    peers = peers[peers.dataset == "cifar10"]
    config = NASBench201Config()
    cells = [SPACE.parse(text) for text in peers.architecture]
    for scorer in map(load_scorer, ("params", "flops")):
        ours = [scorer.score(SPACE.complexity(cell, config), batch, BACKEND).value for cell in cells]
        np.testing.assert_allclose(ours, 1e6 * peers[scorer.name], rtol=1e-6)
    for cell, published in list(zip(cells, peers.l2_norm, strict=True))[:4]:
        assert value("l2_norm", SPACE.network(cell, config, 0), batch) == pytest.approx(published, rel=0.005)


# -- gradients


def plain_gradients(module: nn.Module, batch: Batch) -> tuple[list[nn.Module], list[torch.Tensor]]:
    outputs = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for layer in layers_of(module)
    ]
    module.train()
    loss = F.cross_entropy(module(batch.images), batch.labels)
    for hook, output in zip(hooks, outputs, strict=True):
        hook.remove()
        output.retain_grad()
    loss.backward()
    return layers_of(module), outputs


def test_one_backward_gives_what_the_authors_files_say(batch: Batch) -> None:
    layers, outputs = plain_gradients(network(), batch)
    expected = {
        "snip": sum((layer.weight * layer.weight.grad).abs().sum() for layer in layers),
        "plain": sum((layer.weight * layer.weight.grad).sum() for layer in layers),
        "grad_norm": sum(layer.weight.grad.norm() for layer in layers),
        "l2_norm": sum(layer.weight.norm() for layer in layers),
    }
    for name, wanted in expected.items():
        assert value(name, network(), batch) == pytest.approx(float(wanted.detach()), rel=1e-4, abs=1e-6)
    by_channel = 0.0
    for output, shape in zip(outputs, _shapes_in_order(network(), batch), strict=True):
        product = (output * output.grad).detach()
        per_image = product.flatten(2).sum(2) if product.dim() > 2 else product
        by_channel += float(per_image.square().mean(0).sum() / 2) * math.prod(shape)
    assert value("fisher", network(), batch) == pytest.approx(by_channel, rel=1e-4)


def _shapes_in_order(module: nn.Module, batch: Batch) -> list[torch.Size]:
    """Shape of one channel's weights of each layer, in the order in which the layers run."""
    shapes: list[torch.Size] = []
    for layer in layers_of(module):
        layer.register_forward_hook(lambda layer, _inputs, _output: shapes.append(layer.weight.shape[1:]))
    module(batch.images)
    return shapes


def test_grasp_is_the_change_of_the_gradient_along_itself(batch: Batch) -> None:
    """H g by central differences, in float64."""
    double = Batch(batch.images.double(), batch.labels, batch.hash, batch.dataset)
    module = network().double()
    weights = [layer.weight for layer in layers_of(module)]

    def gradients() -> list[torch.Tensor]:
        module.train()
        loss = F.cross_entropy(module(double.images), double.labels)
        return list(torch.autograd.grad(loss, weights))

    start = [weight.detach().clone() for weight in weights]
    direction, step = gradients(), 1e-6
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, base, along in zip(weights, start, direction, strict=True):
                weight.copy_(base + sign * step * along)
        sides.append(gradients())
    products = [(after - before) / (2 * step) for after, before in zip(*sides, strict=True)]
    with torch.no_grad():
        for weight, base in zip(weights, start, strict=True):
            weight.copy_(base)
    expected = -sum(float((base * product).sum()) for base, product in zip(start, products, strict=True))
    assert value("grasp", module, double) == pytest.approx(expected, rel=1e-4)


def test_synflow_conserves_the_flow_through_every_layer(batch: Batch) -> None:
    """Without biases, weight times gradient sums to R in each layer; batch norms and signs do not matter."""
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10, bias=False)
    )
    first, second = (layer.weight.detach().double().abs() for layer in (chain[1], chain[4]))
    flow = float((second @ (first @ torch.ones(64, dtype=torch.float64))).sum())
    assert value("synflow", chain, batch) == pytest.approx(2 * flow, rel=1e-12)


def test_synflow_survives_sixty_decades(batch: Batch) -> None:
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64, bias=False) for _ in range(40)))
    with torch.no_grad():
        for layer in layers_of(deep):
            layer.weight.fill_(1.0)
    assert value("synflow", deep, batch) == pytest.approx(40 * 64.0**41, rel=1e-9)


def test_zico_is_the_formula_over_the_halves(batch: Batch) -> None:
    module, found = network(), []
    weights = [layer.weight for layer in layers_of(module)]
    for half in (slice(0, 8), slice(8, 16)):
        module.train()
        found.append(torch.autograd.grad(F.cross_entropy(module(batch.images[half]), batch.labels[half]), weights))
    expected = 0.0
    for pair in zip(*found, strict=True):
        gradients = np.stack([gradient.numpy().ravel() for gradient in pair])
        deviation = gradients.std(0)
        varying = deviation > 0
        expected += math.log((np.abs(gradients).mean(0)[varying] / deviation[varying]).sum())
    assert value("zico", network(), batch) == pytest.approx(expected, rel=1e-3)


def test_zico_leaves_out_weights_whose_gradient_does_not_vary() -> None:
    assert stability(torch.tensor([[1.0, 2.0], [3.0, 2.0]])) == pytest.approx(2.0)
    assert stability(torch.ones(2, 3)) == 0


def test_gradsign_is_the_loop_over_single_images(batch: Batch) -> None:
    module = network().train()
    weights = [layer.weight for layer in layers_of(module)]
    signs = [torch.zeros_like(weight) for weight in weights]
    for image, label in zip(batch.images, batch.labels, strict=True):
        loss = F.cross_entropy(module(image[None]), label[None])
        for sign, gradient in zip(signs, torch.autograd.grad(loss, weights), strict=True):
            sign += gradient.sign()
    expected = sum(float(sign.abs().sum()) for sign in signs)
    assert value("gradsign", network(), batch) == pytest.approx(expected, rel=0.02)


def test_ntk_is_the_condition_number_of_the_products_of_gradients(batch: Batch) -> None:
    module = network().train()
    rows = []
    for index in range(16):
        module.zero_grad()
        module(batch.images)[index].sum().backward()
        gradients = [parameter.grad.ravel() for name, parameter in module.named_parameters() if "weight" in name]
        rows.append(torch.cat(gradients).double())
    eigenvalues = np.linalg.eigvalsh((torch.stack(rows) @ torch.stack(rows).T).numpy())
    assert value("ntk", network(), batch) == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-3)


# -- input gradients


def test_jacov_is_the_formula_on_the_eigenvalues(batch: Batch) -> None:
    module, images = network().train(), batch.images.clone().requires_grad_()
    module(images).backward(torch.ones(16, 10))
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(images.grad.flatten(1).double().numpy()))
    expected = -np.sum(np.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5))
    assert value("jacov", network(), batch) == pytest.approx(expected, rel=1e-3)


def test_epe_nas_adds_up_few_classes_and_compares_many() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(7, 30)), np.array([0, 0, 0, 1, 1, 1, 2])
    sums = [np.log(np.abs(np.corrcoef(rows[labels == label])) + 1e-5).sum() for label in (0, 1, 2)]
    seen = InputGradients(torch.from_numpy(rows), torch.from_numpy(labels), 10)
    assert EPENAS().value(seen).value == pytest.approx(np.abs(sums).sum())
    many = InputGradients(seen.rows, seen.labels, 120)
    assert EPENAS().value(many).value == pytest.approx(abs(sums[0] - sums[1]) / 3)


# -- noise and codes


def test_zen_depends_on_neither_pixels_nor_initial_weights(batch: Batch) -> None:
    other = own_batch(torch.rand(16, 1, 8, 8))
    reference = value("zen", network(), batch)
    assert value("zen", SPACE.network(CELL, CONFIG, seed=5), other) == reference
    elsewhere = load_scorer("zen").score(network(), batch, TorchBackend(torch.device("cpu"), seed=1))
    assert elsewhere.value != reference
    assert elsewhere.value == pytest.approx(reference, rel=0.2)


def test_zen_reads_the_map_that_enters_the_global_pooling(batch: Batch) -> None:
    module = network()
    seen = []
    module.relu.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        assert torch.equal(features(module, batch.images), seen[0])
    with pytest.raises(InputError, match="no global pooling"):
        features(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), batch.images)


def test_meco_takes_the_smallest_eigenvalue_and_counts_constant_channels_as_uncorrelated() -> None:
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(3, 50))
    expected = np.linalg.eigvalsh(np.corrcoef(channels))[0]
    assert smallest_eigenvalue(torch.from_numpy(channels)) == pytest.approx(expected)
    assert smallest_eigenvalue(torch.ones(3, 4, 4)) == 0
    with_constant = torch.from_numpy(np.vstack([channels, np.zeros(50)]))
    assert smallest_eigenvalue(with_constant) == pytest.approx(0, abs=1e-12)


def test_meco_counts_every_module_and_so_a_container_again(batch: Batch) -> None:
    layer = nn.Conv2d(1, 4, 3)
    bare = value("meco", layer, batch)
    assert value("meco", nn.Sequential(layer), batch) == 2 * bare
    assert value("meco", nn.Sequential(layer, nn.ReLU(inplace=True)), batch) != pytest.approx(2 * bare)
    assert smallest_eigenvalue(torch.rand(10)) == 0


def test_swap_counts_columns_and_linear_regions_count_rows(batch: Batch) -> None:
    layer = nn.Linear(64, 40)
    module = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(40, 10), nn.LeakyReLU())
    with torch.no_grad():
        hidden = layer(batch.images.flatten(1))
        codes = torch.cat([hidden > 0, module[3](hidden.relu()) > 0], 1).numpy()
    assert value("swap", module, batch) == len({column.tobytes() for column in codes.T})
    assert value("linear_regions", module, batch) == len({row.tobytes() for row in codes}) == 16


def test_codes_of_more_images_than_a_word_has_bits_are_told_apart() -> None:
    active = np.zeros((130, 3), bool)
    active[129, 1] = True
    codes = packed(active)
    assert (codes == np.packbits(active, axis=0, bitorder="little")).all()
    assert SWAP().count(codes) == 2
    assert LinearRegions().count(codes) == 2


# -- AZ-NAS


class Blocky(nn.Module):
    """Two blocks that do what they are told to a map of 4 channels."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1, bias=False)
        self.blocks = nn.ModuleList(nn.Sequential(block(), block()) for _ in range(1))
        self.head = nn.Linear(4, 10)

    def forward(self, images):
        maps = self.stem(images)
        for block in self.blocks[0]:
            maps = block(maps)
        return self.head(maps.mean((2, 3)))


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Identity()

    def forward(self, maps):
        return 2 * self.part(maps)


class Passing(Doubling):
    def forward(self, maps):
        return self.part(maps)


def test_trainability_is_that_of_the_blocks_gain(batch: Batch) -> None:
    """Every gradient doubles, so the Jacobian estimated from n vectors of signs is about 2."""
    larger = own_batch(torch.randn(64, 1, 16, 16))
    assert value("az_trainability", Blocky(Doubling), larger) == pytest.approx(2 - 2 - 1 / 2, abs=0.05)
    assert score("az_trainability", Blocky(Passing), larger).reason == "a block passes gradients on unchanged"


def test_progressivity_of_blocks_that_only_scale_is_zero(batch: Batch) -> None:
    """Scaling leaves the shares of the principal components; a 1x1 stem of one channel has but one."""
    assert value("az_progressivity", Blocky(Doubling), batch) == pytest.approx(0, abs=1e-9)
    assert value("az_expressivity", Blocky(Doubling), batch) == pytest.approx(0, abs=1e-6)


def test_constant_features_are_a_reason(batch: Batch) -> None:
    for name in ("az_expressivity", "az_progressivity"):
        assert "features are constant" in score(name, network(NO_PATH), batch).reason


def test_expressivity_is_at_most_the_log_of_the_channels(batch: Batch) -> None:
    blocks = 3 + 2
    assert 0 < value("az_expressivity", network(), batch) < (1 + blocks) * math.log(16)


def test_networks_without_blocks_are_named(batch: Batch) -> None:
    with pytest.raises(InputError, match="has no blocks"):
        score("az_expressivity", nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)), batch)


# -- families


def test_members_of_a_family_share_their_pass_and_others_do_not() -> None:
    snip, fisher, jacov = (load_scorer(name) for name in ("snip", "fisher", "jacov"))
    assert shared_pass(snip) == shared_pass(fisher) != shared_pass(jacov)
    assert shared_pass(load_scorer("naswot")) != shared_pass(load_scorer("naswot-published"))
    assert isinstance(snip, Family)


FAMILIES = [("snip", "plain", "grad_norm", "fisher"), ("jacov", "epe_nas"), ("swap", "linear_regions")]


@pytest.mark.parametrize("names", FAMILIES)
def test_one_look_gives_each_member_the_value_it_has_alone(names: tuple[str, ...], batch: Batch) -> None:
    members = [load_scorer(name) for name in names]
    seen = members[0].look(network(), batch, BACKEND)
    assert [member.value(seen) for member in members] == [score(name, network(), batch) for name in names]
