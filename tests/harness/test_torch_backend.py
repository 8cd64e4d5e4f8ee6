"""The torch backend: every step against plain torch in float64, and the same bits whatever the threads."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.loops import eliminate
from harness.backends.torch_backend import TorchBackend, average_pool, batch_norm, exact_float32
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.plan import (
    IMAGES,
    AveragePool,
    BatchNorm,
    Convolution,
    Plan,
    ReLUCode,
    Sum,
    buffer_shapes,
    peak_floats,
)
from spaces.weights import draw_weight

CPU = torch.device("cpu")


def images(batch=6, channels=3, height=7, width=7):
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def output_of(step, x, seed=0):
    """What a single step that reads the images computes."""
    found = []
    plan = Plan(tuple(x.shape[1:]), (step, ReLUCode(step.output, 1)))
    TorchBackend(CPU, seed).run(plan, x, lambda relu_input, _: found.append(relu_input))
    return found[0].double()


def normalised(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_convolution(kernel, stride, rectify, normalise):
    shape = (5, 3, kernel, kernel)
    step = Convolution("y", IMAGES, "w", shape, stride, rectify, normalise)
    x = images().double()
    weight = torch.from_numpy(draw_weight("w", shape, 3 * kernel**2, 0)).double()
    expected = F.conv2d(x.relu() if rectify else x, weight, stride=stride, padding=kernel // 2)
    torch.testing.assert_close(
        output_of(step, images()), normalised(expected) if normalise else expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (2, 2, 0), (3, 2, 1)])
def test_average_pool_does_not_count_the_padding(kernel, stride, padding):
    step = AveragePool("y", IMAGES, kernel, stride, padding)
    ones = F.avg_pool2d(torch.ones_like(images()).double(), kernel, stride, padding)
    expected = F.avg_pool2d(images().double(), kernel, stride, padding) / ones
    torch.testing.assert_close(output_of(step, images()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 2), (2, 2, 3), (5, 3, 8), (16, 1, 1), (4, 5, 1)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_pools_around_every_pixel_of_small_maps(channels, height, width, layout):
    x = images(2, channels, height, width)
    expected = F.avg_pool2d(x.double(), 3, 1, 1, count_include_pad=False)
    found = average_pool(AveragePool("y", IMAGES, 3, 1, 1), x.contiguous(memory_format=layout))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_norm_step_leaves_what_it_reads():
    x = images()
    steps = (BatchNorm("y", IMAGES), ReLUCode("y", 1), Sum("z", ("y", IMAGES)), ReLUCode("z", 1))
    found = []
    TorchBackend(CPU, 0).run(Plan(tuple(x.shape[1:]), steps), x, lambda relu_input, _: found.append(relu_input))
    torch.testing.assert_close(found[1], found[0] + images())


def test_sum_counts_a_term_as_often_as_it_stands():
    torch.testing.assert_close(output_of(Sum("y", (IMAGES, IMAGES, IMAGES)), images()), 3 * images().double())


def test_batch_norm_step():
    expected = normalised(images().double())
    torch.testing.assert_close(output_of(BatchNorm("y", IMAGES), images()), expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_has_the_same_bits_with_any_number_of_threads():
    x = torch.randn(64, 16, 32, 32).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = batch_norm(x)
        torch.set_num_threads(2)
        assert torch.equal(batch_norm(x), one)
    finally:
        torch.set_num_threads(threads)


def test_kernel_has_the_same_bits_with_any_number_of_threads_and_whatever_ran_before():
    space, config = NASBench201(), NASBench201Config(channels=16, cells=2)
    x = images(32, 3, 32, 32)
    plans = [space.plan(cell, config, "live") for cell in space.sample_distinct(6, np.random.default_rng(0))]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        backend = TorchBackend(CPU, 0)
        first = [backend.kernel(plan, x) for plan in plans]
        torch.set_num_threads(2)
        again = [TorchBackend(CPU, 0).kernel(plan, x) for plan in reversed(plans)][::-1]
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(first, again, strict=True):
        assert (one is None and other is None) or (one == other).all()


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has only the old switches")
@pytest.mark.parametrize("switches", ["none", "old", "new"])
def test_exact_float32_rules_out_tf32_and_leaves_the_settings_as_they_were(switches, monkeypatch):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if switches == "old":
        monkeypatch.setattr(cudnn, "allow_tf32", True)
    if switches == "new":
        monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    monkeypatch.setattr(cudnn, "benchmark", True)

    def settings():
        return cudnn.conv.fp32_precision, matmul.fp32_precision, cudnn.deterministic, cudnn.benchmark

    before = settings()
    with exact_float32():
        assert settings() == ("ieee", "ieee", True, False)
    assert settings() == before


def test_settings_come_back_when_the_run_fails():
    before = torch.backends.cudnn.deterministic
    with pytest.raises(ValueError), exact_float32():
        raise ValueError
    assert torch.backends.cudnn.deterministic == before


def test_codes_counted_as_distances_are_those_counted_as_bits():
    x = images()
    bits, distances = KernelMatrix(len(x)), KernelMatrix(len(x))
    bits.add(x, 3)
    codes = (x > 0).flatten(1)
    distances.add_distances((codes[:, None] != codes[None]).sum(-1), codes.shape[1], 3)
    assert (bits.matrix() == distances.matrix()).all()
    assert bits.units == distances.units


def test_elimination_has_the_bits_of_one_written_with_arrays():
    kernel = np.cov(np.random.default_rng(0).normal(size=(20, 90)))
    work, expected = kernel.copy(), []
    while len(work):
        expected.append(work[0, 0])
        work = work[1:, 1:] - np.multiply.outer(work[1:, 0], work[1:, 0] / work[0, 0])
    pivots = np.empty(20)
    assert eliminate(kernel.copy(), 0.0, pivots) == 20
    assert pivots.tolist() == expected


def test_elimination_stops_at_a_pivot_that_is_too_small():
    equal_rows = np.array([[2.0, 1, 2], [1, 3, 1], [2, 1, 2]])
    assert eliminate(equal_rows, 1e-12, np.empty(3)) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_what_the_cpu_counts():
    space, config = NASBench201(), NASBench201Config(channels=16, cells=1)
    x, cuda = images(32, 3, 32, 32), torch.device("cuda")
    for cell in space.sample_distinct(4, np.random.default_rng(0)):
        plan = space.plan(cell, config, "all")
        here, there = TorchBackend(CPU, 0).kernel(plan, x), TorchBackend(cuda, 0).kernel(plan, x.to(cuda))
        assert abs(here - there).max() < 1e-4 * here.max()


def test_images_of_another_shape_are_refused():
    plan = Plan((3, 8, 8), (BatchNorm("y", IMAGES), ReLUCode("y", 1)))
    with pytest.raises(ValueError, match=r"images of shape \(3, 8, 8\), not \(3, 7, 7\)"):
        TorchBackend(CPU, 0).kernel(plan, images())


def test_buffers_are_let_go_after_their_last_use_and_peak_counts_them():
    steps = (Sum("a", (IMAGES, IMAGES)), Sum("b", ("a", "a")), Sum("c", ("b", "b")), ReLUCode("c", 1))
    plan = Plan((1, 2, 2), steps)
    assert dict(buffer_shapes(plan))["c"] == (1, 2, 2)
    assert peak_floats(plan) == 2 * 4 + 2 * 4


def test_weights_do_not_depend_on_order_and_fill_their_range():
    weight = draw_weight("a.weight", (64, 16, 3, 3), 144, seed=0)
    draw_weight("b.weight", (3, 3), 9, seed=0)
    assert (weight == draw_weight("a.weight", (64, 16, 3, 3), 144, seed=0)).all()
    assert weight.dtype == np.float32
    assert abs(weight).max() <= 1 / 12
    assert weight.std() == pytest.approx(1 / 12 / 3**0.5, rel=0.02)
    assert abs(weight.mean()) < 1e-3


def test_weights_are_pinned_to_the_bit():
    """A score made today must be made again in years, on any platform."""
    drawn = [float(value).hex() for value in draw_weight("stem.weight", (3,), 27, seed=0)]
    assert drawn == ["-0x1.062bc40000000p-4", "-0x1.9c59600000000p-7", "-0x1.68c7e00000000p-3"]
