"""NASWOT on a GPU: how fast, how far from the floor, what each idea gains, and whether it is exact.

    python benchmarks/gpu.py [--data npz:FILE] [--processes 1 2 4] [--json FILE]

Needs a CUDA device, torch, numpy and numba (with --data also what reads the images), and no installation.
Where triton is missing only the torch backend is measured. Cells are distinct representatives of
NAS-Bench-201 at its own size, the batch 128 images: seeded noise unless --data is given, since speed does not
depend on pixels. Takes minutes. Exit status: 0, 1 where a check failed, 2 without a GPU. `--smoke --device cpu`
runs everything tiny, with kernels in Triton's interpreter; its times say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.torch_backend import TorchBackend, exact_float32
from harness.scorers.naswot import log_determinant
from harness.workers import run_tasks
from spaces.nasbench201 import Cell, NASBench201, NASBench201Config
from spaces.plan import Convolution, Plan, ReLUCode, buffer_shapes, sources

SPACE, SEED = NASBench201(), 0

TOLERANCE = 1e-3
"""Most that a score may differ from the CPU's."""

CHUNK = 8
"""Cells of a task where chunks are not what is compared; the engine's own."""

Figures = dict[str, float | str | bool]
Score = float | None


@dataclass(frozen=True)
class Size:
    """How much is measured. `side` is that of the square matrices that measure the device."""

    config: NASBench201Config
    batch: int
    compared: int
    curve: int
    rounds: int
    chunks: tuple[int, ...]
    side: int


FULL = Size(NASBench201Config(), 128, compared=24, curve=1024, rounds=5, chunks=(1, 8, 64), side=8192)
SMOKE = Size(
    NASBench201Config(channels=2, cells=1, image_size=4), 5, compared=1, curve=2, rounds=1, chunks=(1, 2), side=64
)


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data set of 32x32 colour images, such as npz:FILE")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers to try")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see whether the script runs")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks/gpu.py: torch finds no CUDA device here", file=sys.stderr)
        return 2
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
        torch.set_num_threads(1)
    device, size = torch.device(options.device), SMOKE if options.smoke else FULL
    cells, images = distinct_cells(size), batch_of(options.data, size)
    names = ["torch", "triton"] if find_spec("triton") else ["torch"]
    found: dict[str, Figures] = {}
    for title, figures in sections(device, size, cells, images, names, options.processes):
        found[title] = figures
        print(f"\n| {title} | |\n| --- | ---: |")
        for label, value in figures.items():
            print(f"| {label} | {f'{value:.4g}' if type(value) is float else value} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0 if all(value is not False for figures in found.values() for value in figures.values()) else 1


def sections(
    device: torch.device, size: Size, cells: Sequence[Cell], images: Tensor, names: list[str], processes: list[int]
) -> Iterator[tuple[str, Figures]]:
    """Every table with its title, as it is measured."""
    some = cells[: size.compared]
    plans = [SPACE.plan(cell, size.config, "live") for cell in some]
    there = images.to(device)
    yield "machine", machine(device)
    yield "floor", floor(device, plans, size)
    yield "milliseconds a cell, one process", ideas(device, plans, there, names, size.rounds)
    yield "microseconds for K of one map", kernel_matrices(there, size, packed="triton" in names)
    best = load(names[-1], device)
    if device.type == "cuda":
        yield "milliseconds of one cell, CUDA graph", graph(best, plans[0], there)
    yield f"milliseconds of one cell by kernel, {best.name}", profile(best, plans[0], there)
    yield "exactness", exactness(device, plans, images, names)
    yield from runs(best.name, device, size, cells, images, processes)


def machine(device: torch.device) -> Figures:
    """The card and what runs on it."""
    figures: Figures = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if find_spec("triton"):
        import triton

        figures["triton"] = triton.__version__
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        figures |= {"card": card.name, "multiprocessors": str(card.multi_processor_count)}
        figures |= {"memory, GiB": card.total_memory / 2**30, "cuDNN": str(torch.backends.cudnn.version())}
    return figures


def floor(device: torch.device, plans: Sequence[Plan], size: Size) -> Figures:
    """What the device reaches, and how long a mean cell takes at that; every step reads and writes its maps."""
    matrix = torch.rand(size.side, size.side, device=device)
    with exact_float32():
        multiplying = 2 * size.side**3 / seconds(lambda: matrix @ matrix, device)
    copy = torch.empty_like(matrix)
    copying = 2 * 4 * size.side**2 / seconds(lambda: copy.copy_(matrix), device)
    flops, moved = np.mean([work(plan) for plan in plans], axis=0) * size.batch
    return {
        "float32 product without TF32, TFLOP/s": multiplying / 1e12,
        "copy, read and written, GB/s": copying / 1e9,
        "arithmetic of a cell, ms": float(1e3 * flops / multiplying),
        "memory of a cell, ms": float(1e3 * moved / copying),
    }


def work(plan: Plan) -> tuple[int, int]:
    """Floating-point operations of the convolutions, and bytes read and written by the steps, for one image."""
    shapes = dict(buffer_shapes(plan))
    flops = floats = 0
    for step in plan.steps:
        floats += sum(int(np.prod(shapes[name])) for name in sources(step))
        if not isinstance(step, ReLUCode):
            floats += int(np.prod(shapes[step.output]))
        if isinstance(step, Convolution):
            _, height, width = shapes[step.output]
            flops += 2 * int(np.prod(step.shape)) * height * width
    return flops, 4 * floats


def ideas(device: torch.device, plans: Sequence[Plan], images: Tensor, names: list[str], rounds: int) -> Figures:
    """Median time of each variant, all turn about on the same cells, and of the determinant that follows."""
    variants: dict[str, Callable[[Plan], NDArray[np.int64] | None]] = {}
    for name in names:
        last, first = load(name, device), load(name, device, torch.contiguous_format)
        variants[name] = partial(last.kernel, images=images)
        variants[f"{name}, channels first"] = partial(first.kernel, images=images)
        variants[f"{name}, TF32, not exact"] = partial(inexact_kernel, last, images=images)
    for kernel in variants.values():
        for plan in plans:
            kernel(plan)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, kernel in variants.items():
            taken[name].append(elapsed(partial(list, map(kernel, plans))))
    kernels = [variants["torch"](plan) for plan in plans]
    figures: Figures = {name: 1e3 * statistics.median(times) / len(plans) for name, times in taken.items()}
    figures["log-determinant, on the CPU"] = (
        1e3 * elapsed(lambda: list(map(log_determinant, kernels))) / len(plans)
    )
    return figures


def inexact_kernel(backend: TorchBackend, plan: Plan, images: Tensor) -> NDArray[np.int64]:
    """K with TF32 convolutions."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        return backend.count(plan, images).matrix()


def kernel_matrices(images: Tensor, size: Size, *, packed: bool) -> Figures:
    """Three ways to K of one map of the first stage."""
    shape = (len(images), size.config.channels, size.config.image_size, size.config.image_size)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(shape, generator=generator).to(images.device, memory_format=torch.channels_last)

    def float_product() -> KernelMatrix:
        matrix = KernelMatrix(len(x))
        matrix.add(x)
        return matrix

    def int8_product() -> Tensor:
        codes = (x > 0).permute(0, 2, 3, 1).flatten(1).to(torch.int8)
        counts = codes.sum(1, dtype=torch.int32)
        return codes.shape[1] - counts[:, None] - counts[None, :] + 2 * torch._int_mm(codes, codes.T)

    ways: dict[str, Callable[[], object]] = {"float product": float_product, "int8 product": int8_product}
    if packed:
        from harness.backends.triton_kernels import differing_bits, finish

        ways["packed bits"] = lambda: differing_bits(finish(x, None, {"words"})["words"])
    return {name: 1e6 * seconds(way, images.device) for name, way in ways.items()}


def graph(backend: TorchBackend, plan: Plan, images: Tensor) -> Figures:
    """What a CUDA graph would gain; a plan runs once, so capture and replay stand against one launched run."""
    eager = seconds(lambda: backend.kernel(plan, images), images.device)
    recorded = torch.cuda.CUDAGraph()
    with torch.inference_mode(), exact_float32():
        started = time.perf_counter()
        with torch.cuda.graph(recorded):
            matrix = backend.count(plan, images)
        capture = time.perf_counter() - started
    replay = seconds(recorded.replay, images.device)
    launched = backend.kernel(plan, images)
    same = launched is not None and np.array_equal(matrix.matrix(), launched)
    return {"launched": 1e3 * eager, "captured": 1e3 * capture, "replayed": 1e3 * replay, "same bits": same}


def profile(backend: TorchBackend, plan: Plan, images: Tensor) -> Figures:
    """Time on the device of the dozen kernels that take most; on a CPU, of torch's operations."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    on_gpu = images.device.type == "cuda"
    backend.kernel(plan, images)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profiler(activities=activities) as recorded:
        backend.kernel(plan, images)
    wanted = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in recorded.key_averages()
        if event.device_type == wanted
    ]
    figures: Figures = {"all": sum(microseconds for microseconds, _, _ in events) / 1e3}
    for microseconds, count, key in sorted(events, reverse=True)[:12]:
        figures[f"{count} x {key[:90]}"] = microseconds / 1e3
    return figures


def exactness(device: torch.device, plans: Sequence[Plan], images: Tensor, names: list[str]) -> Figures:
    """Largest difference from the CPU's scores, and whether order and what ran before change a bit."""
    reference = load("torch", torch.device("cpu"))
    expected = [log_determinant(reference.kernel(plan, images)).value for plan in plans]
    there, figures = images.to(device), Figures()
    for name in names:
        backend = load(name, device)
        kernels = [backend.kernel(plan, there) for plan in plans]
        again = [load(name, device).kernel(plan, there) for plan in reversed(plans)][::-1]
        values = [log_determinant(kernel).value for kernel in kernels]
        pairs = list(zip(values, expected, strict=True))
        alike = all((value is None) == (other is None) for value, other in pairs)
        worst = max(abs(value - other) for value, other in pairs if value is not None and other is not None)
        figures[f"{name}: largest difference of a score from the CPU's"] = worst
        figures[f"{name}: at most {TOLERANCE}, and scored alike"] = worst <= TOLERANCE and alike
        figures[f"{name}: same bits in another order"] = all(
            np.array_equal(one, other) for one, other in zip(kernels, again, strict=True)
        )
    return figures


def runs(
    name: str, device: torch.device, size: Size, cells: Sequence[Cell], images: Tensor, processes: list[int]
) -> Iterator[tuple[str, Figures]]:
    """Rates over chunks and processes, the whole space by the best, and whether all gave the same bits."""
    some = cells[: size.curve]
    make = partial(CellScorer, name, device, size.config, images)
    settings = [(1, chunk) for chunk in size.chunks] + [(count, CHUNK) for count in processes if count > 1]
    scores: list[dict[str, Score]] = []
    rates: dict[tuple[int, int], float] = {}
    for count, chunk in settings:
        found, rates[count, chunk] = score_all(make, some, count, chunk)
        scores.append(found)
    yield (
        "cells a minute once running",
        {f"{count} processes, chunks of {chunk}": rate for (count, chunk), rate in rates.items()},
    )
    best = max(rates, key=lambda setting: rates[setting])
    started = time.perf_counter()
    found, rate = score_all(make, cells, *best)
    taken = time.perf_counter() - started
    same = all(found[text] == value for part in scores for text, value in part.items())
    yield (
        f"whole space, {best[0]} processes",
        {
            "distinct cells": str(len(cells)),
            "seconds, start of processes included": taken,
            "cells a minute": 60 * len(cells) / taken,
            "cells a minute once running": rate,
            "same bits for all chunks and processes": same,
        },
    )


def score_all(
    make: Callable[[], CellScorer], cells: Sequence[Cell], processes: int, chunk: int
) -> tuple[dict[str, Score], float]:
    """Scores by text, and cells a minute from the first result to the last."""
    texts = list(map(str, cells))
    chunks = [tuple(texts[start : start + chunk]) for start in range(0, len(texts), chunk)]
    found: dict[str, Score] = {}
    first: tuple[int, float] | None = None
    for task, values in run_tasks(chunks, make, processes=processes):
        found.update(zip(task, values, strict=True))
        first = first or (len(found), time.perf_counter())
    assert first is not None
    return found, 60 * (len(found) - first[0]) / (time.perf_counter() - first[1])


class CellScorer:
    """Scores cells in a process, which keeps its weights."""

    def __init__(self, name: str, device: torch.device, config: NASBench201Config, images: Tensor) -> None:
        self._backend = load(name, device)
        self._config = config
        self._images = images.to(device)

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        plans = [SPACE.plan(SPACE.parse(text), self._config, "live") for text in texts]
        return [log_determinant(self._backend.kernel(plan, self._images)).value for plan in plans]


def load(name: str, device: torch.device, layout: torch.memory_format = torch.channels_last) -> TorchBackend:
    """A backend without weights yet; triton is imported only for its own."""
    if name == "torch":
        return TorchBackend(device, SEED, layout)
    from harness.backends.triton_backend import TritonBackend

    return TritonBackend(device, SEED, layout)


def distinct_cells(size: Size) -> list[Cell]:
    """Representatives of the whole space in a seeded order; two light cells for a smoke test."""
    if size is SMOKE:
        edges = ("none", "none", "none")
        return [Cell((*edges, operation, "none", "none")) for operation in ("nor_conv_1x1", "skip_connect")]
    cells = sorted({SPACE.canonical(cell, "live") for cell in SPACE})
    return [cells[index] for index in np.random.default_rng(SEED).permutation(len(cells))]


def batch_of(data: str | None, size: Size) -> Tensor:
    """Images on the CPU, float32 [B, 3, H, W]."""
    if data:
        from harness.datasets import draw_batch, load_dataset

        return draw_batch(load_dataset(data, image_size=size.config.image_size), size.batch, SEED).images
    shape = (size.batch, 3, size.config.image_size, size.config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def elapsed(function: Callable[[], object]) -> float:
    """Seconds of a function that waits for what it started."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a function, the device waited for, after a call that compiles."""

    def waited() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    waited()
    return statistics.median(elapsed(waited) for _ in range(9))


if __name__ == "__main__":
    sys.exit(main())
