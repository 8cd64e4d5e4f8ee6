"""A search step: tfnas against a direct port of the published loop, turn about, on the same weights and batches.

    python -m benchmarks.search_speed --data npz:FILE [--space nasbench201] [--steps 2] [--threads 2]

Prints for both orders the seconds a step, of the processor and by the clock, how many times as fast that is, and
the largest difference of an alpha after the steps. Processor seconds are what other programs on the machine
disturb least. The port is DARTS's loop as its authors published it (cnn/architect.py, cnn/train_search.py), on a
supernet whose every operation is run by itself, `none` included, with running statistics. Loading images counts
for neither. The default sizes have the published width, so that a step does the same work in fewer cells.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.datasets import load_dataset
from harness.machine import cores, versions
from harness.search.methods import DARTS, SearchRecipe
from harness.search.step import Batch, SearchStep
from spaces.mixed import MixedOperation, Source
from spaces.registry import load_space
from spaces.supernet import AnySupernet, Relaxation

DEFAULT_CELLS = {"nasbench201": 1, "darts": 3}
"""One of each kind in each stage; published are 5 a stage and 8."""


class Zero(nn.Module):
    """The published `none`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class PlainMixedOperation(nn.Module):
    """Every operation by itself, each output times its weight, all added up."""

    def __init__(self, mixed: MixedOperation, operations: tuple[str, ...]) -> None:
        super().__init__()
        modules = dict(mixed.operations.items())
        self.operations = nn.ModuleList(modules.get(name, Zero()) for name in operations)
        self.stride = mixed.stride

    def forward(self, source: Source, weights: Tensor) -> Tensor:
        x = source.x
        outputs = [
            operation(x[:, :, :: self.stride, :: self.stride] if isinstance(operation, Zero) else x)
            for operation in self.operations
        ]
        return sum(weight * output for weight, output in zip(weights, outputs, strict=True))


def plain(supernet: AnySupernet) -> AnySupernet:
    """A copy that computes the same as published programs do."""
    copied = copy.deepcopy(supernet).to(memory_format=torch.contiguous_format)
    dtype = next(copied.parameters()).dtype
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, MixedOperation):
                setattr(module, name, PlainMixedOperation(child, copied.operations))
            elif isinstance(child, nn.BatchNorm2d):
                tracking = nn.BatchNorm2d(child.num_features, affine=child.affine).to(dtype)
                tracking.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, tracking)
    return copied


class PublishedLoop:
    """A step of the published search, written plainly."""

    def __init__(self, network: AnySupernet, recipe: SearchRecipe) -> None:
        self.network = network
        self.order = recipe.order
        used = recipe.weights
        self.momentum, self.decay, self.rate, self.clip = (
            used.momentum,
            used.weight_decay,
            used.learning_rate,
            used.clip or 0.0,
        )
        self.optimiser = torch.optim.SGD(
            network.weights(), used.learning_rate, momentum=used.momentum, weight_decay=used.weight_decay
        )
        self.alpha_optimiser = torch.optim.Adam(
            network.alphas(),
            recipe.alpha_learning_rate,
            betas=recipe.alpha_betas,
            weight_decay=recipe.alpha_weight_decay,
        )

    def __call__(self, training: Batch, validation: Batch) -> None:
        self.alpha_optimiser.zero_grad()
        if self.order == 1:
            F.cross_entropy(self.network(validation[0]), validation[1]).backward()
        else:
            self.unrolled(training, validation)
        self.alpha_optimiser.step()
        self.optimiser.zero_grad()
        F.cross_entropy(self.network(training[0]), training[1]).backward()
        nn.utils.clip_grad_norm_(self.network.weights(), self.clip)
        self.optimiser.step()

    def unrolled(self, training: Batch, validation: Batch) -> None:
        network = self.network
        weights = network.weights()
        loss = F.cross_entropy(network(training[0]), training[1])
        gradients = torch.autograd.grad(loss, weights)
        moved = copy.deepcopy(network)
        with torch.no_grad():
            for weight, target, gradient in zip(weights, moved.weights(), gradients, strict=True):
                buffer = self.optimiser.state[weight].get("momentum_buffer")
                momentum = torch.zeros_like(weight) if buffer is None else buffer * self.momentum
                target.copy_(weight - self.rate * (momentum + gradient + self.decay * weight))
        F.cross_entropy(moved(validation[0]), validation[1]).backward()
        vector = [weight.grad for weight in moved.weights()]
        epsilon = 0.01 / torch.cat([part.flatten() for part in vector]).norm()
        sides = []
        for change in (epsilon, -2 * epsilon):
            with torch.no_grad():
                for weight, part in zip(weights, vector, strict=True):
                    weight.add_(change * part)
            loss = F.cross_entropy(network(training[0]), training[1])
            sides.append(torch.autograd.grad(loss, network.alphas()))
        with torch.no_grad():
            for weight, part in zip(weights, vector, strict=True):
                weight.add_(epsilon * part)
        for alpha, direct, plus, minus in zip(network.alphas(), moved.alphas(), *sides, strict=True):
            alpha.grad = direct.grad - self.rate * (plus - minus) / (2 * epsilon)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set, such as npz:FILE")
    parser.add_argument("--space", default="nasbench201", choices=sorted(DEFAULT_CELLS))
    parser.add_argument("--order", type=int, choices=(1, 2), action="append")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16, help="published are 64")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, help="per stage in nasbench201, in all in darts")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batches = draw_batches(options.data, options.batch_size, 2 * (options.steps + 1))
    space = load_space(options.space)
    cells = options.cells or DEFAULT_CELLS[options.space]
    config = space.configure(channels=options.channels, cells=cells, image_size=batches[0][0].shape[-1])
    for order in options.order or (1, 2):
        recipe = replace(DARTS, order=order)
        theirs_network = plain(space.supernet(config, Relaxation(), 0))
        ours_network = space.supernet(config, Relaxation(), 0).to(memory_format=torch.channels_last)
        ours, theirs = SearchStep(ours_network, recipe), PublishedLoop(theirs_network, recipe)
        seconds: dict[str, list[Seconds]] = {"ours": [], "port": []}
        ours_batches = [(images.to(memory_format=torch.channels_last), labels) for images, labels in batches]
        for step in range(options.steps + 1):
            training, validation = batches[2 * step : 2 * step + 2]
            seconds["port"].append(timed(theirs, training, validation))
            seconds["ours"].append(timed(ours, *ours_batches[2 * step : 2 * step + 2], 0))
        worst = max(
            float((a - b).detach().abs().max())
            for a, b in zip(ours_network.alphas(), theirs_network.alphas(), strict=True)
        )
        # The first step of both warms up.
        port, own = (fastest(seconds[name][1:]) for name in ("port", "ours"))
        print(
            f"{options.space}, order {order}: port {port.processor:.2f} s, ours {own.processor:.2f} s processor, "
            f"{port.processor / own.processor:.2f} times; by the clock {port.clock:.2f} s, {own.clock:.2f} s, "
            f"{port.clock / own.clock:.2f} times; largest difference of an alpha after {options.steps + 1} steps "
            f"{worst:.1e}",
            flush=True,
        )
    print(
        f"{config}, batch {options.batch_size}, {options.threads} of {cores()} cores, each the least of "
        f"{options.steps} steps, {versions()}"
    )


def draw_batches(data: str, size: int, count: int) -> list[Batch]:
    """So many batches of training images, one after another, around again at the end."""
    dataset = load_dataset(data)
    indices = torch.arange(size * count).remainder(len(dataset.train)).numpy().reshape(count, size)
    return [
        (dataset.normalise(dataset.train.fetch(chosen)), torch.from_numpy(dataset.train.labels[chosen]))
        for chosen in indices
    ]


class Seconds(NamedTuple):
    """What a step took: of the processor, all threads together, and by the clock."""

    processor: float
    clock: float


def fastest(steps: Sequence[Seconds]) -> Seconds:
    """The least of each."""
    return Seconds(min(step.processor for step in steps), min(step.clock for step in steps))


def timed(function: Callable[..., object], *arguments: object) -> Seconds:
    """Seconds of one call."""
    processor, clock = time.process_time(), time.perf_counter()
    function(*arguments)
    return Seconds(time.process_time() - processor, time.perf_counter() - clock)


if __name__ == "__main__":
    main()
