"""Exact NASWOT scores: tfnas against the published procedure, turn about, on the same cells and weights.

    python -m benchmarks.score_speed --data npz:FILE [--cells 32]

Prints the rates in cells a minute, the ratios, and the largest difference of a score, for each backend that is
here. Each round takes a few distinct cells: the published procedure scores them one after the other with all
threads, then each backend scores the same cells, some times over, with as many single-threaded processes as there
are cores: over and over because in a long run the processes seldom wait for the last of them. Building the network
or the plan counts for both; starting processes and drawing weights counts for neither.
The allocator's settings move the reference by half, so they are printed; all run under the same.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import numpy as np
import torch

from benchmarks.reference import ReferenceNetwork, published_score
from harness.backends import Backend, load_backend
from harness.backends.native import unavailable
from harness.datasets import Batch, draw_batch, load_dataset
from harness.machine import cores, versions
from harness.scorers.base import load_scorer
from spaces.nasbench201 import Cell, NASBench201, NASBench201Config

SPACE, CONFIG, SEED = NASBench201(), NASBench201Config(), 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set of 32x32 colour images, such as npz:FILE")
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--round", type=int, default=8, help="cells in a round")
    parser.add_argument("--repeat", type=int, default=4, help="times that a backend scores the cells of a round")
    options = parser.parse_args()
    distinct = sorted({SPACE.canonical(cell, "live") for cell in SPACE})
    chosen = np.random.default_rng(SEED).permutation(len(distinct))[: options.cells]
    cells = [distinct[index] for index in chosen]
    images = batch_of(options.data).images
    torch.set_num_threads(cores())
    backends = ["torch"] if unavailable() else ["torch", "native"]
    seconds = dict.fromkeys(["published", *backends], 0.0)
    worst = dict.fromkeys(backends, 0.0)
    context = get_context("spawn")
    initial = (options.data, backends, cells, context.Barrier(cores()))
    with ProcessPoolExecutor(cores(), mp_context=context, initializer=prepare, initargs=initial) as pool:
        # Starts the workers, none of which scores before all are ready.
        scores_of(pool, options.data, "torch", cells[:1] * cores())
        for start in range(0, len(cells), options.round):
            part = cells[start : start + options.round]
            expected = []
            for cell in part:
                taken, value = timed_reference(cell, images)
                seconds["published"] += taken
                expected.append(value)
            for name in backends:
                started = time.perf_counter()
                values = scores_of(pool, options.data, name, part * options.repeat)[: len(part)]
                seconds[name] += (time.perf_counter() - started) / options.repeat
                pairs = zip(values, expected, strict=True)
                worst[name] = max(
                    [worst[name], *(abs(ours - theirs) for ours, theirs in pairs if ours is not None)]
                )
            ratios = ", ".join(f"{name} {seconds['published'] / seconds[name]:.1f} times" for name in backends)
            print(f"{start + len(part)} cells: {ratios}", flush=True)
    for name, taken in seconds.items():
        print(
            f"{name}: {60 * len(cells) / taken:.1f} cells/min, {seconds['published'] / taken:.1f} times published"
        )
    print(f"largest difference of a score: {', '.join(f'{name} {value:.1e}' for name, value in worst.items())}")
    allocator = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}
    print(f"{cores()} cores, {versions()}, allocator {allocator or 'default'}")


@cache
def batch_of(data: str) -> Batch:
    """The 128 images that all score on."""
    return draw_batch(load_dataset(data), 128, SEED)


@cache
def backend(name: str) -> Backend:
    """The worker's backend, which keeps its weights."""
    return load_backend(name, torch.device("cpu"), SEED)


def prepare(data: str, backends: list[str], cells: list[Cell], ready: Barrier) -> None:
    """Make a worker ready, and wait for the others: one thread, batch loaded, weights drawn."""
    torch.set_num_threads(1)
    for name in backends:
        for cell in cells:
            score(data, name, cell)
    ready.wait()


def scores_of(pool: ProcessPoolExecutor, data: str, name: str, cells: list[Cell]) -> list[float | None]:
    """Scores of the cells by the workers, in order."""
    return list(pool.map(score, [data] * len(cells), [name] * len(cells), cells))


def score(data: str, name: str, cell: Cell) -> float | None:
    """Our score of a cell as the published procedure defines it."""
    plan = SPACE.plan(cell, CONFIG, "all")
    return load_scorer("naswot-published").score(plan, batch_of(data), backend(name)).value


def timed_reference(cell: Cell, images: torch.Tensor) -> tuple[float, float]:
    """Seconds and value of the published procedure; the copying of our weights is left out."""
    started = time.perf_counter()
    network = ReferenceNetwork(cell, CONFIG)
    built = time.perf_counter() - started
    network.draw(SEED)
    started = time.perf_counter()
    value = published_score(network, images)
    return built + time.perf_counter() - started, value


if __name__ == "__main__":
    main()
