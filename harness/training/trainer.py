"""One training: a network and a recipe in, accuracies and a learning curve out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.records import Epoch
from harness.training.checkpoint import Checkpoint, Stateful
from harness.training.images import DeviceImages, TrainingSetup
from harness.training.recipes import Recipe
from spaces.errors import InputError
from spaces.weights import keyed_generator


class TrainedAccuracy(NamedTuple):
    """Accuracies in percent after the last epoch, seconds of wall clock over all resumes, and the curve."""

    validation_accuracy: float
    test_accuracy: float
    seconds: float
    curve: tuple[Epoch, ...]


@runtime_checkable
class DropsPaths(Protocol):
    """A network that drops paths with a probability that the trainer raises by the epoch."""

    drop_path: float


def train(
    network: nn.Module,
    setup: TrainingSetup,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedAccuracy:
    """Train the network in place, from its checkpoint where there is one, and measure it.

    The network comes with its initial weights; order, augmentation and dropout of an epoch come from (seed,
    epoch), so a resumed training has the same bits on CPU. After each epoch the checkpoint is written, then
    `on_epoch` is called. A loss that is no longer finite ends the training.

    Raises:
        InputError: the network does not fit the images or the memory, or the checkpoint is damaged or of
            another training.
    """
    started = time.perf_counter()
    recipe = setup.recipe
    # No slower than torch's default on CPU for the smallest networks, and up to 1.4 times as fast for others.
    network.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    check_network(network, setup)
    optimiser = make_optimiser(network.parameters(), recipe)
    parts: dict[str, Stateful] = {"network": network, "optimiser": optimiser}
    curve = [Epoch(*row) for row in checkpoint.load(parts)] if checkpoint else []
    earlier = curve[-1].seconds if curve else 0.0

    while len(curve) < recipe.epochs and not _diverged(curve):
        number = len(curve) + 1
        generator = keyed_generator(setup.seed, f"training epoch {number}")
        rates = recipe.rates(number, setup.steps_per_epoch)
        if isinstance(network, DropsPaths):
            network.drop_path = recipe.drop_path * (number - 1) / recipe.epochs
        with seeded(generator, setup.device), memory_explained(recipe):
            train_loss, train_accuracy = _train_epoch(network, optimiser, setup, generator, rates)
        validation_loss, validation_accuracy = evaluate(network, setup.validation, recipe.batch_size)
        curve.append(
            Epoch(
                epoch=number,
                learning_rate=rates[0],
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                validation_loss=validation_loss,
                validation_accuracy=validation_accuracy,
                seconds=earlier + time.perf_counter() - started,
            )
        )
        if checkpoint:
            checkpoint.save(parts, [astuple(epoch) for epoch in curve])
        if on_epoch:
            on_epoch(curve[-1])

    _, test_accuracy = evaluate(network, setup.test, recipe.batch_size)
    seconds = earlier + time.perf_counter() - started
    return TrainedAccuracy(curve[-1].validation_accuracy, test_accuracy, seconds, tuple(curve))


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """SGD as the recipe says, at its first learning rate."""
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of the optimiser this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def evaluate(network: nn.Module, images: DeviceImages, batch_size: int) -> tuple[float, float]:
    """Mean cross entropy in nats and accuracy in percent, batch norm using its running statistics."""
    network.eval()
    tally = Tally()
    for start in range(0, len(images), batch_size):
        batch, labels = images.batch(np.arange(start, min(start + batch_size, len(images))))
        logits = network(batch)
        tally.add(F.cross_entropy(logits, labels), logits, labels)
    return tally.means()


class Tally:
    """Running means over images, kept on the device so that no batch waits for a copy."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count nothing yet."""
        self.batches = 0
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | int = 0
        self._count = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss, logits [B, classes] and labels [B]."""
        self.count(loss, (logits.argmax(1) == labels).sum(), len(labels))

    def count(self, loss: Tensor, correct: Tensor, size: int) -> None:
        """Count a batch of this size: its mean loss, and how many labels were the likeliest."""
        self.batches += 1
        self._loss += loss.detach().double() * size
        self._correct += correct
        self._count += size

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy in percent."""
        return float(self._loss) / self._count, 100 * int(self._correct) / self._count

    def state_dict(self) -> dict[str, float]:
        """The sums so far."""
        sums = {"loss": float(self._loss), "correct": int(self._correct)}
        return {"batches": self.batches, "count": self._count, **sums}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from these sums."""
        self.batches, self._count = int(state["batches"]), int(state["count"])
        self._loss, self._correct = state["loss"], int(state["correct"])


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    setup: TrainingSetup,
    generator: np.random.Generator,
    rates: Sequence[float],
) -> tuple[float, float]:
    """One step for each batch and rate; mean loss and accuracy of the batches as they were trained on."""
    network.train()
    recipe, tally = setup.recipe, Tally()
    for (images, labels), rate in zip(setup.batches(generator), rates, strict=True):
        set_learning_rate(optimiser, rate)
        images, targets = (
            mix_up(images, labels, setup.classes, recipe.mixup, generator) if recipe.mixup else (images, labels)
        )
        output = network(images)
        # Networks with auxiliary heads return the logits and then those of the heads, in training only.
        logits, *heads = (output,) if isinstance(output, Tensor) else output
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        objective = loss
        if recipe.auxiliary:
            for head in heads:
                head_loss = F.cross_entropy(head, targets, label_smoothing=recipe.label_smoothing)
                objective = objective + recipe.auxiliary * head_loss
        optimiser.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        tally.add(loss, logits, labels)
    return tally.means()


def mix_up(
    images: Tensor, labels: Tensor, classes: int, concentration: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each image blended with another of the batch [B, C, H, W], and targets [B, classes] blended alike.

    One share for the batch, from Beta(concentration, concentration) (Zhang et al., ICLR 2018).
    """
    share = generator.beta(concentration, concentration)
    partner = torch.from_numpy(generator.permutation(len(images))).to(images.device)
    targets = F.one_hot(labels, classes).to(images.dtype)
    return images.lerp(images[partner], share), targets.lerp(targets[partner], share)


def _diverged(curve: Sequence[Epoch]) -> bool:
    return bool(curve) and not math.isfinite(curve[-1].train_loss)


@contextmanager
def seeded(generator: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Torch's own randomness, which dropout uses, seeded inside and as it was after."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(generator.integers(2**63)))
        yield


@contextmanager
def memory_explained(recipe: Recipe) -> Iterator[None]:
    """Turn a lack of memory on the device inside into an `InputError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batch_size {recipe.batch_size} does not fit the device's memory; give a smaller one"
        ) from error


def check_network(network: nn.Module, setup: TrainingSetup) -> None:
    """Run one image through, so that a network that does not fit fails before the training."""
    image, _ = setup.test.batch(np.arange(1))
    described = f"network {type(network).__name__} on images of shape {tuple(image.shape[1:])}"
    network.eval()
    try:
        with torch.no_grad():
            shape = tuple(network(image).shape)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{described} fails: {reason}") from error
    if shape != (1, setup.classes):
        raise InputError(
            f"{described} returns shape {shape}; expected {(1, setup.classes)}, a logit for each class"
        )
