"""Learning rates by name: how the rate moves from the recipe's first value to its last."""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spaces.errors import InputError

POWER = "cosine-power"

SCHEDULES = {
    "cosine": "half a cosine that moves at every step",
    "cosine-epochs": "half a cosine that moves after every epoch, as DARTS does",
    POWER: "half a cosine in the exponent of `power`, after every epoch, `warmup` epochs rising before",
    "exponential": "0.97 times the rate after every epoch, as DARTS does on ImageNet",
}

EXPONENTIAL_DECAY = 0.97
"""DARTS, cnn/train_imagenet.py: --gamma, with --decay_period 1."""


def check_schedule(name: str, *, power: float = 1.0, warmup: int = 0) -> None:
    """Raise `InputError` for a name that is no schedule, or for a power or warm-up that it cannot have."""
    if name not in SCHEDULES:
        raise InputError(f"schedule of a recipe must be one of {', '.join(SCHEDULES)}, not {name!r}")
    _check_annealing(power, warmup)
    if name != POWER and (power != 1 or warmup):
        raise InputError(f"power and warmup of a recipe belong to the schedule {POWER}, not to {name}")


def epoch_rates(
    schedule: str,
    *,
    epoch: int,
    epochs: int,
    steps: int,
    largest: float,
    smallest: float = 0.0,
    power: float = 1.0,
    warmup: int = 0,
) -> list[float]:
    """Learning rate of each step of an epoch; epochs count from 1."""
    if schedule == "exponential":
        return [largest * EXPONENTIAL_DECAY ** (epoch - 1)] * steps
    if schedule == POWER:
        return [smallest + (largest - smallest) * annealed(epoch - 1, epochs, power, warmup)] * steps
    within = [0.0] * steps if schedule == "cosine-epochs" else [step / steps for step in range(steps)]
    return [smallest + (largest - smallest) * _cosine((epoch - 1 + part) / epochs) for part in within]


def annealed(done: int, epochs: int, power: float, warmup: int = 0) -> float:
    """Share of the way from the smallest rate to the largest after `done` of the epochs.

    Over the first `warmup` epochs the share rises linearly to 1, which the last of them has. From there it falls
    to 0 at the end as (power^c - 1) / (power - 1), c being half a cosine from 1 to 0; power 1 is c itself. It is
    power^(c + 1) rescaled to [0, 1] (sharpDARTS, cnn/cosine_power_annealing.py), which counts epochs from 1 there
    and so trains its last epoch at the smallest rate.
    """
    if done < warmup:
        return (done + 1) / warmup
    start = max(warmup - 1, 0)
    cosine = _cosine(min(1.0, (done - start) / (epochs - start)))
    return cosine if power == 1 else math.expm1(cosine * math.log(power)) / (power - 1)


class CosinePowerAnnealing(LRScheduler):
    """Cosine Power Annealing of torch's optimisers (Hundt et al., 2019): one `step()` an epoch.

    From the rate that each group of the optimiser was given to `minimum` after `total_epochs`; later steps stay
    there. Power 1 without warm-up is torch's `CosineAnnealingLR`. See `annealed` for the curve.

    Raises:
        InputError: `power` below 1, or a warm-up that is negative or longer than the whole.
    """

    def __init__(
        self, optimizer: Optimizer, total_epochs: int, power: float, minimum: float, warmup_epochs: int = 0
    ) -> None:
        _check_annealing(power, warmup_epochs)
        if total_epochs < max(1, warmup_epochs):
            raise InputError(
                f"total_epochs must be at least 1 and the warmup of {warmup_epochs}, not {total_epochs}"
            )
        self.total_epochs = total_epochs
        self.power = power
        self.minimum = minimum
        self.warmup_epochs = warmup_epochs
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Rate of every group in the epoch that begins."""
        share = annealed(self.last_epoch, self.total_epochs, self.power, self.warmup_epochs)
        return [self.minimum + share * (largest - self.minimum) for largest in self.base_lrs]


def _check_annealing(power: float, warmup: int) -> None:
    if not 1 <= power < math.inf:
        raise InputError(f"power of a schedule must be at least 1, not {power}")
    if warmup < 0:
        raise InputError(f"warmup of a schedule must be at least 0 epochs, not {warmup}")


def _cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * done)) / 2
