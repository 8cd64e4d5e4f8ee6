"""Learning rates by name: how the rate moves from the recipe's first value to its last."""

from __future__ import annotations

import math

from spaces.errors import InputError

SCHEDULES = {
    "cosine": "half a cosine that moves at every step",
    "cosine-epochs": "half a cosine that moves after every epoch, as DARTS does",
    "exponential": "0.97 times the rate after every epoch, as DARTS does on ImageNet",
}

EXPONENTIAL_DECAY = 0.97
"""DARTS, cnn/train_imagenet.py: --gamma, with --decay_period 1."""


def check_schedule(name: str) -> None:
    """Raise `InputError` for a name that is no schedule."""
    if name not in SCHEDULES:
        raise InputError(f"schedule of a recipe must be one of {', '.join(SCHEDULES)}, not {name!r}")


def epoch_rates(
    schedule: str, *, epoch: int, epochs: int, steps: int, largest: float, smallest: float = 0.0
) -> list[float]:
    """Learning rate of each step of an epoch; epochs count from 1."""
    if schedule == "exponential":
        return [largest * EXPONENTIAL_DECAY ** (epoch - 1)] * steps
    within = [0.0] * steps if schedule == "cosine-epochs" else [step / steps for step in range(steps)]
    return [smallest + (largest - smallest) * _cosine((epoch - 1 + part) / epochs) for part in within]


def _cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * done)) / 2
