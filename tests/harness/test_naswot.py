"""NASWOT under its two names, against the published procedure written plainly, on real images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from benchmarks.reference import ReferenceNetwork, live_relus, published_kernels
from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.torch_backend import TorchBackend
from harness.datasets import draw_batch, load_dataset
from harness.scorers.base import Score, load_scorer
from harness.scorers.naswot import NO_RELU, SINGULAR, log_determinant
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config

SPACE, CONFIG = NASBench201(), NASBench201Config()
CPU = torch.device("cpu")
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def batch(real_data):
    return draw_batch(load_dataset(f"npz:{real_data / 'cifar10_subset.npz'}"), 128, seed=0)


@pytest.mark.parametrize(("count", "cells_per_stage"), [(100, 1), (4, 5)])
def test_both_definitions_agree_with_the_published_procedure(batch, count, cells_per_stage):
    """Random cells of the whole space, 128 real images: within 1e-3, and ranked alike."""
    config = NASBench201Config(cells=cells_per_stage)
    backend = TorchBackend(CPU, seed=0)
    ours = {"naswot": [], "naswot-published": []}
    reference = {"naswot": [], "naswot-published": []}
    for cell in SPACE.sample_distinct(count, np.random.default_rng(11)):
        network = ReferenceNetwork(cell, config)
        network.draw(seed=0)
        kernels = published_kernels(network, batch.images, [live_relus(network), None])
        for name, kernel in zip(ours, kernels, strict=True):
            scorer = load_scorer(name)
            score = scorer.score(SPACE.plan(cell, config, scorer.counting), batch, backend)
            expected = Score(None, NO_RELU) if not kernel.any() else log_determinant(kernel.astype(np.int64))
            assert score.reason == expected.reason
            if score.value is not None:
                ours[name].append(score.value)
                reference[name].append(np.linalg.slogdet(kernel)[1])
    for name, scores in ours.items():
        assert len(scores) >= 0.9 * count
        np.testing.assert_allclose(scores, reference[name], rtol=0, atol=TOLERANCE)
        assert (stats.rankdata(np.round(scores, 3)) == stats.rankdata(np.round(reference[name], 3))).all()


def test_published_counts_dead_branches_and_live_does_not(batch):
    dead_branch = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    without = SPACE.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    backend = TorchBackend(CPU, seed=0)
    scores = {
        (name, cell): load_scorer(name).score(SPACE.plan(cell, CONFIG, load_scorer(name).counting), batch, backend)
        for name in ("naswot", "naswot-published")
        for cell in (dead_branch, without)
    }
    assert scores["naswot", dead_branch] == scores["naswot", without]
    assert scores["naswot-published", dead_branch] != scores["naswot-published", without]


def test_a_cell_without_a_path_has_a_named_reason(batch):
    nothing = SPACE.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    backend = TorchBackend(CPU, seed=0)
    plan = SPACE.plan(nothing, CONFIG, "live")
    assert load_scorer("naswot").score(plan, batch, backend) == Score(None, NO_RELU)
    plan = SPACE.plan(nothing, CONFIG, "all")
    assert load_scorer("naswot-published").score(plan, batch, backend) == Score(None, SINGULAR)


codes = arrays.arrays(np.bool_, st.tuples(st.integers(2, 12), st.integers(1, 200)))


def plain_kernel(active):
    signs = active.astype(np.int64)
    return signs @ signs.T + (1 - signs) @ (1 - signs).T


@given(codes, st.integers(1, 3))
def test_packed_codes_count_equal_bits(active, multiplicity):
    matrix = KernelMatrix(len(active))
    matrix.add(torch.from_numpy(active).float() - 0.5, multiplicity)
    assert (matrix.matrix() == multiplicity * plain_kernel(active)).all()


@given(codes, st.integers(0, 199))
def test_kernel_does_not_depend_on_how_the_codes_are_cut(active, cut):
    whole, parts = KernelMatrix(len(active)), KernelMatrix(len(active))
    inputs = torch.from_numpy(active).float()
    whole.add(inputs)
    for part in (inputs[:, :cut], inputs[:, cut:]):
        parts.add(part)
    assert (whole.matrix() == parts.matrix()).all()


def test_memory_layout_changes_no_count():
    inputs = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    plain, channels_last = KernelMatrix(6), KernelMatrix(6)
    plain.add(inputs)
    channels_last.add(inputs.contiguous(memory_format=torch.channels_last))
    assert (plain.matrix() == channels_last.matrix()).all()


def test_matrix_products_of_other_devices_count_the_same():
    from harness.backends.kernel_matrix import _equal_bits

    active = torch.rand(9, 301, generator=torch.Generator().manual_seed(0)) > 0.4
    assert (_equal_bits(active) == plain_kernel(active.numpy())).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_values_of_every_type_have_their_signs(dtype):
    values = torch.tensor([[1, -1, 0, 2] * 20, [1, 1, 0, -2] * 20]).to(dtype)
    matrix = KernelMatrix(2)
    matrix.add(values.requires_grad_() if dtype.is_floating_point else values)
    assert matrix.matrix().tolist() == [[80, 40], [40, 80]]


def test_what_is_not_a_number_is_not_active():
    matrix = KernelMatrix(2)
    matrix.add(torch.tensor([[math.nan, math.inf, 1e-300], [-1.0, 1.0, -1e-300]], dtype=torch.float64))
    assert matrix.matrix().tolist() == [[3, 2], [2, 3]]


def test_zero_is_not_active():
    matrix = KernelMatrix(2)
    matrix.add(torch.tensor([[0.0, 1.0], [-1.0, 1.0]]))
    assert matrix.matrix().tolist() == [[2, 2], [2, 2]]


@given(arrays.arrays(np.bool_, (12, 400)))
def test_log_determinant_is_that_of_numpy(active):
    kernel = plain_kernel(active)
    score = log_determinant(kernel)
    if np.linalg.matrix_rank(kernel) == len(kernel):
        assert score.value == pytest.approx(np.linalg.slogdet(kernel.astype(float))[1], abs=1e-9)
    else:
        assert score == Score(None, SINGULAR)


def test_equal_codes_make_the_kernel_singular():
    active = np.eye(8, 50, dtype=bool)
    active[3] = active[5]
    assert log_determinant(plain_kernel(active)) == Score(None, SINGULAR)


def test_fewer_units_than_images_make_the_kernel_singular():
    active = np.random.default_rng(0).random((64, 60)) > 0.5
    assert log_determinant(plain_kernel(active)) == Score(None, SINGULAR)


def test_unknown_scorer_lists_what_exists():
    with pytest.raises(InputError, match=r"unknown scorer 'nwot'; allowed: az_expressivity, "):
        load_scorer("nwot")
