"""The search step for recurrent cells: tfnas against a direct port of the published loop, turn about.

    python -m benchmarks.recurrent_speed [--hidden 64] [--batch-size 32] [--vocabulary 2000] [--threads 2]

Prints the ratio of the times of a step for first and second order, that of the loss of a large vocabulary, and the
largest difference of an alpha and of a weight after one step from the same state. With one thread the times are
those of the processor, which others on the machine disturb least; with more they are of the wall clock. The port
does what rnn/train_search.py and rnn/architect.py do: every pair of nodes and every activation by operations of
their own, whole backward passes for the alphas too, and for the second order a copy of the supernet. It differs in
two points so that both compute the same: batch norm takes the statistics of the batch, and the finite difference
is taken at the weights, as the article has it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.machine import cores, versions
from harness.search.recurrent import RecurrentRecipe
from harness.search.recurrent_step import Part, RecurrentStep
from harness.training.language import masks_of
from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig
from spaces.darts_rnn.cross_entropy import next_token_loss
from spaces.darts_rnn.language import Masks
from spaces.darts_rnn.supernet import RecurrentSupernet
from spaces.supernet import Relaxation

ACTIVATIONS = (torch.tanh, torch.relu, torch.sigmoid, lambda x: x)
PERTURBATION = 1e-2

TOKENS, WORDS, LOSSES = 35 * 32, 10_000, 5
"""A part of a text, the vocabulary of Penn Treebank, and how often the loss is timed."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    ours_seconds, plain_seconds = loss_seconds(options.hidden, clock)
    print(
        f"loss of {TOKENS} tokens among {WORDS} words, with its gradients: {1000 * ours_seconds:.0f} ms, "
        f"{plain_seconds / ours_seconds:.2f} times plain ({1000 * plain_seconds:.0f} ms)",
        flush=True,
    )
    config = DARTSRNNConfig(classes=options.vocabulary, hidden=options.hidden)
    for order in (1, 2):
        recipe = RecurrentRecipe(batch_size=options.batch_size, order=order, learning_rate=1.0)
        supernet = DARTSRNN().supernet(config, Relaxation(), 0)
        ours, published = RecurrentStep(supernet, recipe), PublishedStep(deepcopy(supernet), recipe)
        training, validation = (part(config, recipe, seed) for seed in (1, 2))
        ours(training, validation)
        published(training, validation)
        alphas, weights = (
            max(float((one - other).abs().max().detach()) for one, other in zip(*pair, strict=True))
            for pair in (
                (supernet.alphas(), published.supernet.alphas()),
                (supernet.weights(), published.supernet.weights()),
            )
        )
        times: dict[object, list[float]] = {ours: [], published: []}
        for _ in range(options.steps):
            for step, seconds in times.items():
                started = clock()
                step(training, validation)  # type: ignore[operator]
                seconds.append(clock() - started)
        ours_seconds, published_seconds = (min(seconds) for seconds in times.values())
        print(
            f"order {order}: {1000 * ours_seconds:.0f} ms a step, {published_seconds / ours_seconds:.2f} times "
            f"published ({1000 * published_seconds:.0f} ms); largest difference of an alpha {alphas:.1e}, of a "
            f"weight {weights:.1e}",
            flush=True,
        )
    print(
        f"{options.hidden} units, {options.batch_size} readers, {recipe.length} places, "
        f"{options.vocabulary} words; best of {options.steps}; {options.threads} threads of {cores()} cores, "
        f"{versions()}"
    )


def loss_seconds(hidden: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Times of the loss by slices and of torch's cross entropy, with all gradients; the best of some."""
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(count, hidden, generator=generator) for count in (TOKENS, WORDS))
    inputs = [states.requires_grad_(), weight.mul_(0.04).requires_grad_(), torch.zeros(WORDS, requires_grad=True)]
    targets = torch.randint(WORDS, (TOKENS,), generator=generator)
    ways: list[Callable[[], Tensor]] = [
        lambda: next_token_loss(inputs[0], targets, inputs[1], inputs[2]).mean,
        lambda: F.cross_entropy(F.linear(*inputs), targets),
    ]
    best = [math.inf, math.inf]
    for _ in range(LOSSES):
        for number, way in enumerate(ways):
            started = clock()
            torch.autograd.grad(way(), inputs)
            best[number] = min(best[number], clock() - started)
    return best[0], best[1]


def part(config: DARTSRNNConfig, recipe: RecurrentRecipe, seed: int) -> Part:
    """A part of a random text."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(config.classes, (recipe.length + 1, recipe.batch_size), generator=generator)
    masks = masks_of(recipe, config, recipe.batch_size, seed, torch.device("cpu"))
    return Part(text[:-1], text[1:], torch.zeros(recipe.batch_size, config.hidden), masks)


class PublishedStep:
    """One step of the published loop."""

    def __init__(self, supernet: RecurrentSupernet, recipe: RecurrentRecipe) -> None:
        self.supernet = supernet
        self.recipe = recipe
        self.alpha_optimiser = torch.optim.Adam(supernet.alphas(), lr=3e-3, weight_decay=1e-3)
        self.optimiser = torch.optim.SGD(supernet.weights(), lr=recipe.learning_rate, weight_decay=5e-7)

    def __call__(self, training: Part, validation: Part) -> None:
        """Move the alphas, then the weights."""
        self.alpha_optimiser.zero_grad()
        if self.recipe.order == 1:
            loss_of(self.supernet, validation)[0].backward()
        else:
            self.unrolled(training, validation)
        self.alpha_optimiser.step()
        self.optimiser.zero_grad()
        loss, states = loss_of(self.supernet, training)
        (loss + 1e-3 * (states[1:] - states[:-1]).pow(2).mean()).backward()
        nn.utils.clip_grad_norm_(self.supernet.weights(), self.recipe.clip)
        self.optimiser.step()

    def unrolled(self, training: Part, validation: Part) -> None:
        """Gradient of the alphas after a virtual step."""
        alphas, weights = self.supernet.alphas(), self.supernet.weights()
        rate = self.recipe.learning_rate
        gradients = torch.autograd.grad(loss_of(self.supernet, training)[0], weights)
        shortened = min(1.0, self.recipe.clip / float(nn.utils.get_total_norm(gradients)))
        copy = deepcopy(self.supernet)
        with torch.no_grad():
            for weight, gradient in zip(copy.weights(), gradients, strict=True):
                weight -= rate * (shortened * gradient + 5e-7 * weight)
        loss = loss_of(copy, validation)[0]
        direct = torch.autograd.grad(loss, copy.alphas(), retain_graph=True)
        vector = torch.autograd.grad(loss, copy.weights())
        epsilon = PERTURBATION / float(nn.utils.get_total_norm(vector))
        sides = []
        for scale in (epsilon, -2 * epsilon):
            with torch.no_grad():
                for weight, part_of_vector in zip(weights, vector, strict=True):
                    weight += scale * part_of_vector
            sides.append(torch.autograd.grad(loss_of(self.supernet, training)[0], alphas))
        with torch.no_grad():
            for weight, part_of_vector in zip(weights, vector, strict=True):
                weight += epsilon * part_of_vector
        for alpha, gradient, above, below in zip(alphas, direct, *sides, strict=True):
            alpha.grad = gradient - rate * shortened * (above - below) / (2 * epsilon)


def loss_of(supernet: RecurrentSupernet, part: Part) -> tuple[Tensor, Tensor]:
    """Loss and states of a part, written as the authors write it."""
    embedded = supernet.words.embed(part.tokens, part.masks)
    weight = torch.cat((supernet.cell.token.weight, supernet.cell.state.weight), 1).T
    hidden, states = part.hidden, []
    for token in embedded:
        hidden = cell(supernet, token, hidden, weight, part.masks)
        states.append(hidden)
    output = torch.stack(states)
    logits = supernet.words.logits((output * part.masks.output).flatten(0, 1))
    return F.nll_loss(F.log_softmax(logits, -1), part.targets.flatten()), output


def cell(supernet: RecurrentSupernet, token: Tensor, hidden: Tensor, weight: Tensor, masks: Masks) -> Tensor:
    """One place: node after node, activation after activation."""
    width = hidden.shape[1]
    gate, candidate = (torch.cat((token, hidden * masks.hidden), -1) @ weight).split(width, -1)
    nodes = norm(hidden + gate.sigmoid() * (candidate.tanh() - hidden))[None]
    shares = F.softmax(supernet.architecture["recurrent"], -1)
    first = 0
    for number, node_weight in enumerate(supernet.cell.node_weights(), start=1):
        product = ((nodes * masks.hidden).view(-1, width) @ node_weight.T).view(number, -1, 2 * width)
        gate, candidate = product.split(width, -1)
        gate = gate.sigmoid()
        node = torch.zeros_like(hidden)
        for column, activation in enumerate(ACTIVATIONS, start=1):
            updated = nodes + gate * (activation(candidate) - nodes)
            node = node + (shares[first : first + number, column, None, None] * updated).sum(0)
        nodes = torch.cat((nodes, norm(node)[None]))
        first += number
    return nodes[1:].mean(0)


def norm(node: Tensor) -> Tensor:
    """Batch norm by the statistics of the batch."""
    return F.batch_norm(node, None, None, training=True)


if __name__ == "__main__":
    main()
