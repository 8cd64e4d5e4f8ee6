"""Spaces of ready-made networks known by name: no cells, no plans, the network itself is scored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spaces.base import Complexity, ConfigT, SearchSpace
from spaces.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, order=True)
class NamedNetwork:
    """A network of a library, by name."""

    name: str

    def __str__(self) -> str:
        return self.name


class NamedNetworks(SearchSpace[NamedNetwork, ConfigT]):
    """A space whose architectures are names; subclasses list the names and build the networks."""

    @abstractmethod
    def names(self) -> list[str]:
        """Every name, in the library's order."""

    @abstractmethod
    def build(self, name: str, config: ConfigT) -> nn.Module:
        """Untrained network of this name, initialised by its library from torch's global generator."""

    @property
    def size(self) -> int:
        """Number of names."""
        return len(self.names())

    def __iter__(self) -> Iterator[NamedNetwork]:
        """Networks in the library's order."""
        return map(NamedNetwork, self.names())

    def parse(self, text: str) -> NamedNetwork:
        """The network of this name. Raises `InputError` with names that come close."""
        names = self.names()
        if text not in names:
            from difflib import get_close_matches

            close = ", ".join(get_close_matches(text, names, n=5)) or ", ".join(names[:5])
            raise InputError(f"space {self.name} has no network {text!r}; close names of {len(names)}: {close}")
        return NamedNetwork(text)

    def sample(self, rng: np.random.Generator) -> NamedNetwork:
        """A name, uniformly."""
        names = self.names()
        return NamedNetwork(names[int(rng.integers(len(names)))])

    def network(self, architecture: NamedNetwork, config: ConfigT, seed: int) -> nn.Module:
        """The network with its library's own initialisation, drawn from `seed`."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build(architecture.name, config)

    def complexity(self, architecture: NamedNetwork, config: ConfigT) -> Complexity:
        """Trainable parameters; operations are torch's own count (multiply and add are two) halved."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"):
            network = self.build(architecture.name, config).eval()
            images = torch.empty(1, config.input_channels, config.image_size, config.image_size)
            with FlopCounterMode(display=False) as counter:
                network(images)
        params = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        return Complexity(params, counter.get_total_flops() // 2)
