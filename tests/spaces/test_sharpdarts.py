"""sharpDARTS: SharpSepConv in every form, its cells against published sizes, Max-W."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_darts import one_hot
from torch import nn
from torch.nn import functional as F

from harness.backends.module import module_kernel
from spaces.darts import DARTS
from spaces.errors import InputError
from spaces.mixed import MixedOperation
from spaces.operations import FactorisedReduction, SharpSepConv
from spaces.sharpdarts import SharpDARTS, SharpDARTSConfig
from spaces.sharpdarts.operations import make_operation
from spaces.sharpdarts.primitives import OPERATIONS, SHARP
from spaces.supernet import Relaxation, mixing_weights

SPACE = SharpDARTS()
SMALL = SharpDARTSConfig(image_size=8, channels=2, cells=3, choke_channels=3)
V2 = SPACE.parse("DARTS_V2")
FOUND = SPACE.parse("SHARP_DARTS")
genotypes = st.integers(0, 2**32).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))
widths = st.integers(1, 9)


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# The block


@given(widths, widths, widths, st.sampled_from((1, 3, 5, 7)), st.sampled_from((1, 2)), st.sampled_from((1, 2)))
@settings(max_examples=40, deadline=None)
def test_parameters_of_the_block_follow_its_definition(inputs, middle, outputs, kernel, stride, dilation):
    block = SharpSepConv(inputs, middle, outputs, kernel, stride, dilation=dilation)
    first = kernel**2 * inputs + inputs * middle + 2 * middle
    second = kernel**2 * middle + middle * outputs + 2 * outputs
    assert parameters(block) == first + second
    assert block(torch.zeros(2, inputs, 8, 8)).shape == (2, outputs, 8 // stride, 8 // stride)


def test_only_the_first_half_is_strided_and_dilated():
    block = SharpSepConv(4, 4, 4, 3, 2, dilation=2)
    first, second = block.first_depthwise, block.second_depthwise
    assert (first.stride, first.dilation, first.padding) == ((2, 2), (2, 2), (2, 2))
    assert (second.stride, second.dilation, second.padding) == ((1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("operation", "middle", "dilation"),
    [
        ("sep_conv_3x3", 6, 1),
        ("dil_conv_3x3", 6, 2),
        ("flood_conv_3x3", 24, 1),
        ("dil_flood_conv_3x3", 24, 2),
        ("choke_conv_3x3", 32, 1),
        ("dil_choke_conv_3x3", 32, 2),
    ],
)
def test_every_form_has_its_middle_width_and_dilation(operation, middle, dilation):
    block = make_operation(operation, 6, 1, choke_channels=32)
    assert block.first_pointwise.weight.shape == (middle, 6, 1, 1)
    assert block.second_pointwise.weight.shape == (6, middle, 1, 1)
    assert block.first_depthwise.dilation == (dilation, dilation)


def test_the_plain_form_is_the_separable_convolution_of_darts():
    network = SPACE.network(V2, SMALL, 5)
    of_darts = DARTS().network(V2, SMALL, 5)
    theirs = of_darts.state_dict()
    shared = [name for name in network.state_dict() if "sep_conv" in name]
    assert shared
    assert all(torch.equal(network.state_dict()[name], theirs[name]) for name in shared)
    assert parameters(network) > parameters(of_darts)


def test_a_reduction_reads_every_second_pixel_without_a_strided_convolution():
    """The strided form, which computes the same, corrupts memory in torch for few channels."""
    reduction, x = FactorisedReduction(4, 4), torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    strided = [
        F.conv2d(part, half.weight, stride=2)
        for part, half in ((x, reduction.even), (x[:, :, 1:, 1:], reduction.odd))
    ]
    assert torch.allclose(reduction.body(x), torch.cat(strided, 1), atol=1e-6)
    assert reduction.even.stride == reduction.odd.stride == (1, 1)


# The space


def test_cells_of_darts_have_the_published_parameters():
    """The authors' training log of these cells (cnn/genotypes.py)."""
    assert SPACE.complexity(V2, SharpDARTSConfig(channels=36, cells=20)).params == 3_529_270


@pytest.mark.parametrize(
    ("stem", "channels", "cells", "choke", "millions", "billions"),
    [
        ("cifar", 36, 20, 32, 1.98, 0.357),
        ("imagenet", 48, 14, 32, 3.17, 0.370),
        ("imagenet", 48, 14, 96, 3.71, 0.481),
    ],
)
def test_found_cells_have_the_published_sizes(stem, channels, cells, choke, millions, billions):
    """The authors' tables, within one unit of the last digit printed."""
    size = SPACE.complexity(
        FOUND,
        SharpDARTSConfig(
            channels=channels,
            cells=cells,
            stem=stem,
            image_size=32 if stem == "cifar" else 224,
            classes=10 if stem == "cifar" else 1000,
            choke_channels=choke,
        ),
    )
    assert abs(size.params / 1e6 - millions) < 0.01
    assert abs(size.flops / 1e9 - billions) < 0.001


@settings(max_examples=4, deadline=None)
@given(genotypes)
def test_complexity_counts_the_parameters_of_the_network(genotype):
    assert SPACE.complexity(genotype, SMALL).params == parameters(SPACE.network(genotype, SMALL, 0))


@given(genotypes)
def test_parse_inverts_print_and_sampled_cells_have_no_none(genotype):
    assert SPACE.parse(str(genotype)) == genotype
    operations = {edge.operation for cell in genotype.cells().values() for edge in cell}
    assert operations <= set(OPERATIONS[1:])


@settings(max_examples=10)
@given(genotypes)
def test_neighbours_use_all_eight_operations(genotype):
    neighbours = list(SPACE.neighbours(genotype))
    assert len(set(neighbours)) == len(neighbours) == 2 * (8 * 7 + 12)


def test_operations_of_darts_alone_are_named():
    with pytest.raises(InputError, match="unknown operation 'avg_pool_3x3' into node 5 of the reduce cell"):
        SPACE.parse(str(DARTS().parse("DARTS_V1")))
    with pytest.raises(InputError, match="expected SHARP_DARTS, DARTS_V2"):
        SPACE.parse("DARTS_V1")


def test_choke_must_have_a_channel():
    with pytest.raises(InputError, match="choke_channels must be at least 1, not 0"):
        SharpDARTSConfig(choke_channels=0)


def test_naswot_sees_both_relus_of_every_block():
    plain = SPACE.parse(str(FOUND).replace("choke_conv", "sep_conv"))
    kernels = [module_kernel(SPACE.network(genotype, SMALL, 0), images()) for genotype in (FOUND, plain)]
    added = sum(
        3 * (SMALL.choke_channels - shape.channels) * shape.size**2
        for shape in SMALL.shapes()
        if shape.kind == "normal"
    )
    assert added > 0
    assert (kernels[0].diagonal() - kernels[1].diagonal() == added).all()


# The supernet


@settings(max_examples=2, deadline=None)
@given(genotypes)
def test_one_hot_supernet_is_the_standalone_network(genotype):
    genotype = SPACE.parse(str(genotype).replace("max_pool_3x3", "flood_conv_3x3"))
    supernet = SPACE.supernet(SMALL, Relaxation(), 3)
    one_hot(supernet, genotype)
    with torch.no_grad():
        assert torch.allclose(supernet(images()), SPACE.network(genotype, SMALL, 3)(images()), atol=1e-5)


@pytest.mark.parametrize("weighting", ["softmax", "max-w"])
def test_every_alpha_has_a_gradient_and_a_genotype_comes_out(weighting):
    supernet = SPACE.supernet(SMALL, Relaxation(weighting=weighting), 0)
    assert supernet.architecture["normal"].shape == (14, 9)
    assert supernet.learnable == tuple(SHARP)
    supernet(images()).square().sum().backward()
    assert all((alpha.grad != 0).any() for alpha in supernet.alphas())
    assert SPACE.parse(str(supernet.derive())) == supernet.derive()


# Max-W


class Scaled(nn.Module):
    """x times a parameter."""

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, x):
        return self.scale * x


def mixture(*scales):
    return MixedOperation({str(place): Scaled(scale) for place, scale in enumerate(scales)})


logits = st.lists(st.floats(-4, 4), min_size=2, max_size=6).map(lambda x: torch.tensor(x, dtype=torch.float64))


@given(logits)
def test_max_w_is_one_for_the_strongest_and_keeps_the_differences_of_softmax(alphas):
    weights, probabilities = mixing_weights(alphas, "max-w"), torch.softmax(alphas, -1)
    assert float(weights[alphas.argmax()]) == pytest.approx(1, abs=1e-12)
    assert (weights <= 1 + 1e-12).all()
    assert torch.allclose(weights - weights[0], probabilities - probabilities[0])


def test_the_strongest_operation_learns_as_if_it_were_alone():
    alphas, x = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64), torch.ones(1, 1, 2, 2, dtype=torch.float64)
    for weighting in ("softmax", "max-w"):
        mixed = mixture(1.0, 2.0, 3.0)
        mixed(x, mixing_weights(alphas, weighting)).sum().backward()
        gradients = torch.stack([module.scale.grad for module in mixed.operations.values()])
        alone = x.sum()
        assert torch.allclose(gradients, mixing_weights(alphas, weighting) * alone)
        assert bool(gradients[1] == alone) == (weighting == "max-w")


def test_gradients_flow_through_the_maximum():
    alphas = torch.tensor([0.3, 1.0, -0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits: mixing_weights(logits, "max-w"), alphas)
    alphas.grad = None
    mixing_weights(alphas, "max-w")[0].backward()
    probabilities = torch.softmax(alphas.detach(), -1)
    jacobian = torch.diag(probabilities) - torch.outer(probabilities, probabilities)
    assert torch.allclose(alphas.grad, jacobian[0] - jacobian[1])


def winner(weighting, *scales, target):
    """Operation that a search picks whose mixture of multiples of 1 is to reach a target."""
    mixed, one = mixture(*scales), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    alphas = torch.zeros(len(scales), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([alphas], lr=0.05)
    for _ in range(400):
        loss = (mixed(one, mixing_weights(alphas, weighting)) - target).square().sum()
        optimiser.zero_grad()
        loss.backward(inputs=[alphas])
        optimiser.step()
    return scales[int(alphas.argmax())]


def test_max_w_picks_another_operation_than_softmax_where_their_outputs_add_up():
    """Averages of 1.2 and 3 reach 2 by leaning on 3; with the strongest at full scale 3 alone is too much."""
    assert winner("softmax", 1.2, 1.3, 3.0, target=2.3) == 3.0
    assert winner("max-w", 1.2, 1.3, 3.0, target=2.3) != 3.0
