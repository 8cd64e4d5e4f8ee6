"""The path for networks without a plan: tfnas against the published procedure, turn about, on the same weights.

    python -m benchmarks.generic_speed --data npz:FILE [--genotypes 8] [--batch-size 64]

Prints one ratio for DARTS genotypes and one for each of two ready-made networks, and the largest difference of a
score. Each round takes as many networks as there are cores: the published procedure scores them one after the
other with all threads, then tfnas scores them with as many single-threaded processes. Building the networks
counts for both, starting processes for neither.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.reference import published_score
from harness.backends.module import module_kernel
from harness.datasets import draw_batch, load_dataset
from harness.machine import cores, versions
from harness.scorers.naswot import log_determinant
from spaces.registry import load_space

READY_MADE = ("resnet18", "mnasnet1_0")


class Task(NamedTuple):
    """A network by space, text and seed."""

    space: str
    text: str
    seed: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set of 32x32 colour images, such as npz:FILE")
    parser.add_argument("--genotypes", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    data = (options.data, options.batch_size)
    space, rng = load_space("darts"), np.random.default_rng(0)
    groups = {"darts": [Task("darts", str(space.sample(rng)), 0) for _ in range(options.genotypes)]}
    groups |= {name: [Task("torchvision", name, seed) for seed in range(2 * cores())] for name in READY_MADE}
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn"), initializer=prepare, initargs=data) as pool:
        for name, tasks in groups.items():
            list(pool.map(score, [data] * 2 * cores(), tasks[:1] * 2 * cores()))
            published, ours, worst = measured(pool, data, tasks)
            print(
                f"{name}: {60 * len(tasks) / ours:.0f} a minute, {published / ours:.1f} times published; "
                f"largest difference of a score {worst:.1e}",
                flush=True,
            )
    print(f"batch of {options.batch_size}, {cores()} cores, {versions()}")


def measured(pool: ProcessPoolExecutor, data: tuple[str, int], tasks: list[Task]) -> tuple[float, float, float]:
    """Seconds of the published procedure and of ours, and the largest difference of a score."""
    published, ours, differences = 0.0, 0.0, []
    for part in rounds(tasks):
        started = time.perf_counter()
        expected = [published_score(separate_relus(build(task)), images_of(*data)) for task in part]
        published += time.perf_counter() - started
        started = time.perf_counter()
        values = list(pool.map(score, [data] * len(part), part))
        ours += time.perf_counter() - started
        differences += [abs(value - other) for value, other in zip(values, expected, strict=True)]
    return published, ours, max(differences)


def rounds(tasks: list[Task]) -> Iterator[list[Task]]:
    """As many tasks at a time as there are cores."""
    for start in range(0, len(tasks), cores()):
        yield tasks[start : start + cores()]


@cache
def images_of(data: str, batch_size: int) -> Tensor:
    """The images that all score on."""
    return draw_batch(load_dataset(data), batch_size, 0).images


def prepare(data: str, batch_size: int) -> None:
    """Make a worker ready: one thread, batch loaded."""
    torch.set_num_threads(1)
    images_of(data, batch_size)


def build(task: Task) -> nn.Module:
    """The network of a task."""
    space = load_space(task.space)
    return space.network(space.parse(task.text), space.config_type(), task.seed)


def separate_relus(network: nn.Module) -> nn.Module:
    """The network with every ReLU out of place, which the published procedure's hooks need."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


def score(data: tuple[str, int], task: Task) -> float:
    """Our score of a task."""
    value = log_determinant(module_kernel(build(task), images_of(*data), task.seed)).value
    assert value is not None
    return value


if __name__ == "__main__":
    main()
