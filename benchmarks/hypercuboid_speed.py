"""A search step on the HyperCuboid: shared passes against every operation by itself; and sharpDARTS against DARTS.

    python -m benchmarks.hypercuboid_speed [--channels 8] [--image-size 16] [--batch-size 32] [--steps 3]

First the HyperCuboid's supernet as it is, and a copy that runs every (width in, width out, choice) by itself and
computes the same; turn about on the same weights and batch, with the memory each keeps for its backward pass.
Then a first-order step on the supernet of sharpDARTS beside first- and second-order steps on that of DARTS, the
comparison behind the paper's claim that its search is half as fast again. One thread.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.machine import versions
from harness.search.methods import DARTS, DHGS, SHARPDARTS, SearchRecipe
from harness.search.step import Batch, SearchStep
from spaces.hypercuboid.mixed import MixedStep
from spaces.registry import load_space
from spaces.supernet import AnySupernet


class DirectStep(nn.Module):
    """Every operation of a step by itself, each output times its weight, all added up."""

    def __init__(self, step: MixedStep) -> None:
        super().__init__()
        self.operations = step.operations

    def forward(self, maps: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
        terms: list[list[Tensor]] = [[] for _ in maps]
        operations = iter(self.operations.values())
        for source, x in enumerate(maps):
            for target in range(len(maps)):
                terms[target] += [weight * next(operations)(x) for weight in weights[source, target]]
        return [sum(parts[1:], parts[0]) for parts in terms]


def direct(supernet: AnySupernet) -> AnySupernet:
    """A copy that shares nothing."""
    copied = copy.deepcopy(supernet)
    copied.steps = nn.ModuleList(DirectStep(step) for step in copied.steps)  # type: ignore[arg-type]
    return copied


def kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of distinct tensors that a forward pass keeps for its backward pass, parameters left out."""
    kept: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(images)
    total = sum(kept.values())
    del output
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=3, help="of the supernets of sharpDARTS and DARTS")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, generator=generator).to(
        memory_format=torch.channels_last
    )
    batch = images, torch.randint(10, (options.batch_size,), generator=generator)

    def supernet(space: str, recipe: SearchRecipe, **settings: int) -> AnySupernet:
        loaded = load_space(space)
        config = loaded.configure(image_size=options.image_size, channels=options.channels, **settings)
        return loaded.supernet(config, recipe.relaxation, 0).to(memory_format=torch.channels_last)

    for space in ("hypercuboid", "hypercuboid-grid"):
        shared = supernet(space, DHGS)
        plain = direct(shared)
        difference = float((shared(images) - plain(images)).detach().abs().max())
        memory = [kept_bytes(network, images) / 2**20 for network in (plain, shared)]
        times = turn_about([SearchStep(network, DHGS) for network in (plain, shared)], batch, options.steps)
        print(
            f"{space}: direct {times[0]:.2f} s, shared {times[1]:.2f} s a step, {times[0] / times[1]:.2f} times "
            f"as fast; kept for backward {memory[0]:.0f} MiB and {memory[1]:.0f} MiB; "
            f"largest difference of a logit {difference:.1e}",
            flush=True,
        )
    second = replace(DARTS, order=2)
    rivals = [("darts", DARTS), ("darts", second), ("sharpdarts", SHARPDARTS)]
    steps = [SearchStep(supernet(space, recipe, cells=options.cells), recipe) for space, recipe in rivals]
    first, both, sharp = turn_about(steps, batch, options.steps)
    print(
        f"sharpdarts {sharp:.2f} s a step; darts of first order {first:.2f} s, {first / sharp:.2f} times that; of "
        f"second order {both:.2f} s, {both / sharp:.2f} times that"
    )
    print(f"{options}, {versions()}")


def turn_about(steps: Sequence[SearchStep], batch: Batch, count: int) -> list[float]:
    """Median processor seconds of each step, the first round left out."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(count + 1):
        for place, step in enumerate(steps):
            seconds[place].append(timed(step, batch, batch, 0))
    return [statistics.median(each[1:]) for each in seconds]


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Processor seconds of one call, which other programs disturb less than wall clock."""
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


if __name__ == "__main__":
    main()
