"""Scores that share a pass against each score by a pass of its own, turn about, on the same cells and weights.

    python -m benchmarks.scorer_speed --data npz:FILE [--cells 6] [--batch-size 64] [--alone meco --alone naswot]

The plain versions do what the authors' files do: a network for each score, its own forward and backward pass, a
loop over images where the gradients of single images are asked for. Prints processor seconds a cell, which other
work on the machine changes less than the time on the clock, the ratio, and the largest relative difference of a
score. With `--alone` it prints what each of these scorers takes for a cell instead, building included. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backends import choose_backend
from harness.backends.torch_backend import TorchBackend
from harness.datasets import Batch, draw_batch, load_dataset
from harness.engine import ScoringJob, score_architectures, some_plans
from harness.machine import versions
from harness.progress import NullProgress
from harness.scorers.base import load_scorer, scores_of
from harness.store import Store
from spaces.nasbench201 import Cell, NASBench201, NASBench201Config

SPACE, CONFIG, SEED = NASBench201(), NASBench201Config(), 0
BACKEND = TorchBackend(torch.device("cpu"), SEED)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set of 32x32 colour images, such as npz:FILE")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--alone", action="append", help="scorer to time by itself, repeatable")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batch = draw_batch(load_dataset(options.data), options.batch_size, SEED)
    drawn = SPACE.sample_distinct(4 * options.cells, np.random.default_rng(SEED))
    cells = [cell for cell in drawn if SPACE.plan(cell, CONFIG, "live").steps][: options.cells]
    if options.alone:
        print_alone(options.alone, cells, batch)
    else:
        print_ratios(cells, batch)
    print(f"batch {options.batch_size}, {len(cells)} cells, one thread, {versions()}")


def print_alone(names: Sequence[str], cells: Sequence[Cell], batch: Batch) -> None:
    """A row for each scorer: what a cell takes, over all cells but the first, which pays for the start."""
    print("| scorer | CPU ms a cell |\n| --- | ---: |")
    for name in names:
        job = ScoringJob(SPACE.name, CONFIG, name, SEED, batch, "cpu", backend_for(name, cells))
        with TemporaryDirectory() as folder, Store(Path(folder) / "scores.sqlite") as store:
            score_architectures(job, cells[:1], store, NullProgress(), processes=1)
            started = time.process_time()
            score_architectures(job, cells[1:], store, NullProgress(), processes=1)
            taken = time.process_time() - started
        print(f"| {name} | {1000 * taken / (len(cells) - 1):.0f} |", flush=True)


def backend_for(name: str, cells: Sequence[Cell]) -> str:
    """The backend that `tfnas score` takes."""
    scorer = load_scorer(name)
    plans = some_plans(SPACE, CONFIG, name, list(map(str, cells)))
    return choose_backend("auto" if scorer.reads == "plan" else "torch", "cpu", plans)[0]


def print_ratios(cells: Sequence[Cell], batch: Batch) -> None:
    """A row for each family."""
    print("| scores | plain, CPU s a cell | ours, CPU s a cell | times as fast | largest difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for names, plain in PLAIN.items():
        seconds, worst = np.zeros(2), 0.0
        for cell in cells:
            started = time.process_time()
            expected = plain(cell, batch)
            halfway = time.process_time()
            found = together(names, cell, batch)
            seconds += halfway - started, time.process_time() - halfway
            worst = max(worst, *(abs(a - b) / (abs(b) or 1) for a, b in zip(found, expected, strict=True)))
        theirs, ours = seconds / len(cells)
        row = (", ".join(names), f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}", f"{worst:.0e}")
        print(f"| {' | '.join(row)} |", flush=True)


def together(names: Sequence[str], cell: Cell, batch: Batch) -> list[float]:
    """Our scores of a cell, the family's by one pass; the network is built."""
    network = SPACE.network(cell, CONFIG, SEED)
    return [score.value or 0.0 for score in scores_of(list(map(load_scorer, names)), network, batch, BACKEND)]


def layers_of(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def gradient_scores(cell: Cell, batch: Batch) -> list[float]:
    """snip, plain, grad_norm and fisher, each with a backward pass of its own."""
    of_layer: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda weight, gradient: (weight * gradient).abs().sum(),
        lambda weight, gradient: (weight * gradient).sum(),
        lambda _weight, gradient: gradient.norm(),
    ]
    found = []
    for measure in of_layer:
        layers = layers_of(network := SPACE.network(cell, CONFIG, SEED).train())
        F.cross_entropy(network(batch.images), batch.labels).backward()
        pairs = [(layer.weight.detach(), layer.weight.grad) for layer in layers]
        found.append(sum(float(measure(weight, gradient)) for weight, gradient in pairs if gradient is not None))
    return [*found, fisher_score(cell, batch)]


def fisher_score(cell: Cell, batch: Batch) -> float:
    """fisher with the outputs of all layers and their gradients kept."""
    network = SPACE.network(cell, CONFIG, SEED).train()
    kept: list[tuple[nn.Conv2d | nn.Linear, Tensor]] = []

    def keep(layer: nn.Conv2d | nn.Linear, inputs: object, output: Tensor) -> None:
        del inputs
        output.retain_grad()
        kept.append((layer, output))

    for layer in layers_of(network):
        layer.register_forward_hook(keep)
    F.cross_entropy(network(batch.images), batch.labels).backward()
    score = 0.0
    for layer, output in kept:
        if output.grad is not None:
            product = (output * output.grad).detach().flatten(2) if output.dim() > 2 else output * output.grad
            per_image = product.sum(2) if product.dim() > 2 else product
            score += float(per_image.detach().square().mean(0).sum()) / 2 * layer.weight[0].numel()
    return score


def jacobian_scores(cell: Cell, batch: Batch) -> list[float]:
    """jacov and epe_nas, each with a backward pass of its own."""
    for_jacov, for_epe = (input_gradients(cell, batch) for _ in range(2))
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(for_jacov)) + 1e-5
    labels = batch.labels.numpy()
    classes = [np.corrcoef(for_epe[labels == label]) for label in np.unique(labels)]
    return [
        -float(np.sum(np.log(eigenvalues) + 1 / eigenvalues)),
        sum(abs(float(np.log(np.abs(correlations) + 1e-5).sum())) for correlations in classes),
    ]


def input_gradients(cell: Cell, batch: Batch) -> np.ndarray:
    """Gradient of the summed logits by each image, float64 [B, pixels]."""
    network, images = SPACE.network(cell, CONFIG, SEED).train(), batch.images.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(images).sum(), [images])
    return found.flatten(1).double().numpy()


def code_scores(cell: Cell, batch: Batch) -> list[float]:
    """swap and linear_regions, each with a forward pass of its own and codes as bytes."""
    return [float(torch.unique(codes(cell, batch), dim=axis).shape[axis]) for axis in (1, 0)]


def codes(cell: Cell, batch: Batch) -> Tensor:
    """Signs of every ReLU's input, bool [B, units]."""
    network = SPACE.network(cell, CONFIG, SEED).train()
    signs: list[Tensor] = []

    def keep(relu: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del relu, output
        signs.append(inputs[0].flatten(1) > 0)

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(keep)
    with torch.no_grad():
        network(batch.images)
    return torch.cat(signs, 1)


def gradsign_score(cell: Cell, batch: Batch) -> list[float]:
    """gradsign by one forward and backward pass after the other."""
    network = SPACE.network(cell, CONFIG, SEED).train()
    layers = layers_of(network)
    signs = [torch.zeros_like(layer.weight) for layer in layers]
    for image, label in zip(batch.images, batch.labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(image[None]), label[None]).backward()
        for sign, layer in zip(signs, layers, strict=True):
            if layer.weight.grad is not None:
                sign += layer.weight.grad.sign()
    return [float(sum(sign.abs().sum().item() for sign in signs))]


PLAIN: dict[tuple[str, ...], Callable[[Cell, Batch], list[float]]] = {
    ("snip", "plain", "grad_norm", "fisher"): gradient_scores,
    ("jacov", "epe_nas"): jacobian_scores,
    ("swap", "linear_regions"): code_scores,
    ("gradsign",): gradsign_score,
}
"""Scorers of one pass, and the plain version of them all."""


if __name__ == "__main__":
    main()
