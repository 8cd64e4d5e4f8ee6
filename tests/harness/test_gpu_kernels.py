"""The Triton kernels against plain torch: in Triton's interpreter everywhere, compiled where there is a GPU."""

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from harness.backends.torch_backend import TorchBackend
from harness.backends.triton_backend import TritonBackend, wanted_forms
from harness.backends.triton_kernels import batch_statistics, differing_bits, finish
from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Sum

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
SHAPES = [(3, 5, 1, 1), (5, 3, 7, 5), (66, 17, 2, 3), (128, 1, 4, 4)]
PLAN = Plan(
    (3, 6, 6),
    (
        Convolution("stem", IMAGES, "stem.weight", (4, 3, 3, 3), rectify=False),
        ReLUCode("stem", 2),
        Convolution("left", "stem", "left.weight", (4, 4, 3, 3)),
        AveragePool("right", "stem", 3, 1, 1),
        Sum("node", ("left", "right", "stem")),
        ReLUCode("node", 1),
        Convolution("small", "node", "small.weight", (5, 4, 3, 3), stride=2, normalise=False),
        BatchNorm("norm", "small"),
        ReLUCode("norm", 1),
    ),
    off_units=7,
)


@pytest.fixture(scope="module")
def interpreter():
    """A process in which Triton runs kernels on the CPU: it decides so when it is imported, once and for all."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            pool.submit(torch.set_num_threads, 1).result()
        yield pool


@pytest.fixture(params=["interpreter", "cuda"])
def on_device(request):
    """Call a function with a device for the kernels and with arrays."""
    if request.param == "interpreter":
        pool = request.getfixturevalue("interpreter")
        return lambda function, *given: pool.submit(function, "cpu", *given).result()
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return lambda function, *given: function("cuda", *given)


def random_maps(shape, ties=False):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return np.round(x) if ties else x


def laid_out(x, layout, device):
    return torch.from_numpy(x).to(device).contiguous(memory_format=LAYOUTS[layout])


def finished(device, x, layout, wanted):
    """Every wanted form of x normalised, as arrays in the order of the axes."""
    x = laid_out(x, layout, device)
    return {form: y.cpu().numpy() for form, y in finish(x, batch_statistics(x, 1e-5), wanted).items()}


def words_of(device, x, layout):
    return finish(laid_out(x, layout, device), None, {"words"})["words"].cpu().numpy()


def distances_of(device, words):
    return differing_bits(torch.from_numpy(words).to(device)).cpu().numpy()


def kernels_of(device, images):
    device = torch.device(device)
    x = torch.from_numpy(images).to(device)
    return [backend(device, 3).kernel(PLAN, x) for backend in (TorchBackend, TritonBackend)]


def active_units(x, layout):
    """Whether each unit is above 0, bool [B, D], in memory order."""
    return (x.transpose(0, 2, 3, 1) if layout == "channels last" else x).reshape(len(x), -1) > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_norm_and_relu_are_those_of_float64(on_device, shape, layout):
    x = random_maps(shape) * 3 + 1
    exact = x.astype(np.float64)
    centred = exact - exact.mean((0, 2, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-5)
    forms = on_device(finished, x, layout, {"plain", "rectified"})
    np.testing.assert_allclose(forms["plain"], expected, atol=2e-6)
    np.testing.assert_array_equal(forms["rectified"], np.maximum(forms["plain"], 0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_words_hold_the_signs_in_memory_order_and_zero_is_not_active(on_device, shape, layout):
    x = random_maps(shape, ties=True)
    words = on_device(words_of, x, layout)
    bits = np.unpackbits(words.T.copy().view(np.uint8), axis=1, bitorder="little")
    units = x[0].size
    np.testing.assert_array_equal(bits[:, :units], active_units(x, layout))
    assert not bits[:, units:].any()


def test_words_are_the_signs_of_what_is_written_beside_them(on_device):
    forms = on_device(finished, random_maps((5, 3, 7, 5)), "channels last", {"plain", "words"})
    bits = np.unpackbits(forms["words"].T.copy().view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, :105], active_units(forms["plain"], "channels last"))


def test_many_pixels_are_summed_in_many_parts(on_device):
    x = random_maps((8, 2, 33, 32))
    forms = on_device(finished, x, "channels last", {"plain"})
    np.testing.assert_allclose(forms["plain"].std((0, 2, 3)), 1, rtol=1e-4)


@pytest.mark.parametrize(("words", "batch"), [(1, 2), (3, 65), (2, 128), (257, 3)])
def test_distances_count_every_bit_of_every_word(on_device, words, batch):
    codes = np.random.default_rng(1).integers(-(2**31), 2**31, (words, batch), dtype=np.int64).astype(np.int32)
    bits = np.unpackbits(codes.T.copy().view(np.uint8), axis=1).astype(np.int64)
    expected = bits @ (1 - bits.T) + (1 - bits) @ bits.T
    np.testing.assert_array_equal(on_device(distances_of, codes), expected)


def test_kernel_is_that_of_the_torch_backend(on_device):
    images = random_maps((9, 3, 6, 6))
    expected, found = on_device(kernels_of, images)
    # A unit within a rounding of 0 may change sides.
    assert np.abs(found - expected).max() <= 2
    assert (np.diagonal(found) == 2 * 144 + 144 + 45 + 7).all()


def test_only_what_is_read_is_written():
    wanted = wanted_forms(PLAN)
    assert wanted["stem"] == {"plain", "rectified", "words"}
    assert wanted["left"] == {"plain"}
    assert wanted["node"] == {"rectified", "words"}
    assert wanted["norm"] == {"words"}


def test_maps_with_gaps_are_refused():
    with pytest.raises(ValueError, match="without gaps"):
        batch_statistics(torch.zeros(4, 4, 4, 8)[..., ::2], 1e-5)


def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from harness.backends import triton_kernels as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    given = {"x": "*fp32", "mean": "*fp32", "inverse": "*fp32", "plain": "*fp32", "rectified": "*fp32"}
    given |= {"sums": "*fp64", "words": "*i32", "distances": "*i64", "epsilon": "fp32"}
    fixed = {"tile_rows": kernels.TILE_ROWS, "tile_channels": kernels.TILE_CHANNELS}
    fixed |= {"most_parts": kernels.MOST_PARTS, "tile_words": kernels.TILE_WORDS}
    fixed |= {"tile_images": kernels.TILE_IMAGES, "words_compared": kernels.WORDS_COMPARED}
    for name in ("_partial_sums", "_combine_sums", "_finish", "_add_differing_bits"):
        kernel = getattr(kernels, name)
        types = {key: "constexpr" if key in fixed else given.get(key, "i32") for key in kernel.arg_names}
        constants = {(kernel.arg_names.index(key),): fixed[key] for key in types if key in fixed}
        compiled = triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", 90, 32))
        assert ("popc.b32" in compiled.asm["ptx"]) == (name == "_add_differing_bits")


def run_benchmark(*arguments):
    return subprocess.run([sys.executable, BENCHMARK, *arguments], capture_output=True, text=True)


def test_benchmark_runs_and_checks_both_backends(tmp_path):
    ran = run_benchmark("--smoke", "--device", "cpu", "--processes", "1", "--json", tmp_path / "figures.json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    for backend in ("torch", "triton"):
        assert found["exactness"][f"{backend}: at most 0.001, and scored alike"] is True
        assert found["milliseconds a cell, one process"][backend] > 0
    assert found["whole space, 1 processes"]["same bits for all chunks and processes"] is True
    assert "| distinct cells | 2 |" in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_benchmark_without_a_gpu_says_so_in_one_line():
    ran = run_benchmark()
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "benchmarks/gpu.py: torch finds no CUDA device here\n"
