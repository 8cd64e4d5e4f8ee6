"""Weights beside those that are trained: their average, and those of the best epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def reached_plateau(losses: Sequence[float], plateau: int) -> bool:
    """Whether the last loss is above the best of those more than `plateau` epochs before it."""
    earlier = losses[: -1 - plateau]
    return bool(earlier) and losses[-1] > min(earlier)


class WeightAverage:
    """Running mean of a network's weights over the steps since it was started (Polyak and Juditsky, 1992).

    What torch.optim.ASGD keeps at t0 = 0 and lambd = 0; the steps themselves stay those of SGD. `since` is the
    epoch in which it was started, None before.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights = list(network.parameters())
        self._means: list[Tensor] = []
        self._count = 0
        self.since: int | None = None

    def start(self, epoch: int) -> None:
        """Average from the next step on, the first of this epoch."""
        self.since = epoch
        self._means = [torch.zeros_like(weight) for weight in self._weights]

    @torch.no_grad()
    def add(self) -> None:
        """Count the weights as they are, if the averaging was started."""
        if self.since is not None:
            self._count += 1
            torch._foreach_lerp_(self._means, [weight.detach() for weight in self._weights], 1 / self._count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the mean weights inside, where there are any, and its own again after."""
        if not self._count:
            yield
            return
        own = [weight.detach().clone() for weight in self._weights]
        _place(self._weights, self._means)
        try:
            yield
        finally:
            _place(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Mean and count."""
        return {"means": self._means, "since": self.since, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._means = [mean.to(weight) for mean, weight in zip(state["means"], self._weights, strict=False)]
        self.since, self._count = state["since"], state["count"]


class KeptWeights:
    """The weights that a network had at its best."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = list(network.parameters())
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember the weights as they are."""
        self._kept = [weight.detach().clone() for weight in self._weights]

    def restore(self) -> None:
        """Give the network the weights that were remembered."""
        _place(self._weights, self._kept)

    def state_dict(self) -> dict[str, Any]:
        """The weights, if any."""
        return {"kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember these."""
        self._kept = [kept.to(weight) for kept, weight in zip(state["kept"], self._weights, strict=False)]


@torch.no_grad()
def _place(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
