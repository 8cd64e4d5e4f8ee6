"""What every search space offers: the guide for plug-ins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np

from spaces.errors import InputError
from spaces.plan import Plan

if TYPE_CHECKING:
    from torch import nn

    from spaces.supernet import Relaxation, Supernet

Counting = Literal["live", "all"]
"""Which ReLUs a scorer sees: those on a path from input to output, or every one as written."""

Reading = Literal["images", "text"]
"""What the networks of a space read, and data sets hold."""

ENUMERABLE_SIZE = 1_000_000
"""Up to this size a sample is drawn from the enumerated space, so that asking for all of it ends."""


class Architecture(Protocol):
    """A discrete choice in a space: hashable, ordered, and its `str` is the field's text that parses back."""

    def __hash__(self) -> int: ...
    def __lt__(self, other: Self, /) -> bool: ...
    def __str__(self) -> str: ...


ArchitectureT = TypeVar("ArchitectureT", bound=Architecture)


@dataclass(frozen=True)
class NetworkConfig:
    """What a network of any space needs to know about the images; spaces add their own widths and depths."""

    input_channels: int = 3
    image_size: int = 32
    classes: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise InputError(f"{field.name} must be at least 1, not {value}")


ConfigT = TypeVar("ConfigT", bound=NetworkConfig)


@dataclass(frozen=True)
class Complexity:
    """Size of a network as written: trainable parameters, and operations per image by the space's rule."""

    params: int
    flops: int


class SearchSpace(ABC, Generic[ArchitectureT, ConfigT]):
    """A set of architectures, how to vary them, and how to build each one.

    A plug-in subclasses this, names the class in the entry-point group `tfnas.spaces`, and is then used by
    every command. The life of an architecture: `parse` or `sample` makes it, `canonical` finds the one that
    stands for all that compute the same, `plan` (or `network`, where there is no plan) is scored, `network`
    is trained.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    config_type: type[ConfigT]

    reads: ClassVar[Reading] = "images"

    code: str = ""
    """Fingerprint of code that decides what a text builds, where that may change between runs: part of a key."""

    @property
    def size(self) -> int | None:
        """Number of architectures, or None where the space is not enumerable."""
        return None

    @abstractmethod
    def parse(self, text: str) -> ArchitectureT:
        """Architecture of this text. Raises `InputError` naming the bad part and what is allowed."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> ArchitectureT:
        """One architecture, uniformly."""

    @abstractmethod
    def network(self, architecture: ArchitectureT, config: ConfigT, seed: int) -> nn.Module:
        """Standalone network as written, weights drawn from `seed`; [B, C, H, W] to logits [B, classes]."""

    def __iter__(self) -> Iterator[ArchitectureT]:
        """All architectures, in the official order where there is one. Raises `InputError` if not enumerable."""
        raise InputError(f"space {self.name} cannot be enumerated; give a sample or a list of architectures")

    def mutate(self, architecture: ArchitectureT, rng: np.random.Generator) -> ArchitectureT:
        """A neighbour, uniformly. Raises `InputError` where the space has no neighbourhood."""
        neighbours = list(self.neighbours(architecture))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, architecture: ArchitectureT) -> Iterator[ArchitectureT]:
        """Architectures one change away. Raises `InputError` where the space has no neighbourhood."""
        raise InputError(f"space {self.name} has no neighbourhood: {architecture} cannot be mutated")

    def canonical(self, architecture: ArchitectureT, counting: Counting) -> ArchitectureT:
        """Representative of the architectures that a scorer with this `counting` cannot tell apart."""
        del counting
        return architecture

    def plan(self, architecture: ArchitectureT, config: ConfigT, counting: Counting) -> Plan | None:
        """Steps that compute every counted ReLU's input; None where the network itself must be run."""
        del architecture, config, counting
        return None

    def supernet(self, config: ConfigT, relaxation: Relaxation, seed: int) -> Supernet[ArchitectureT]:
        """All architectures at once, mixed by alphas. Raises `InputError` where the space has none."""
        del config, relaxation, seed
        raise InputError(f"space {self.name} has no supernet; a differentiable search needs one")

    def complexity(self, architecture: ArchitectureT, config: ConfigT) -> Complexity | None:
        """Parameters and operations of the network as written; None where the space has no rule."""
        del architecture, config
        return None

    def configure(self, **settings: int | None) -> ConfigT:
        """Config of this space; settings that are None keep their default, unknown ones raise `InputError`."""
        given = {name: value for name, value in settings.items() if value is not None}
        known = [field.name for field in fields(self.config_type)]
        for name in given:
            if name not in known:
                raise InputError(f"space {self.name} has no setting {name!r}; it has {', '.join(known)}")
        return self.config_type(**given)

    def sample_distinct(self, count: int, rng: np.random.Generator) -> list[ArchitectureT]:
        """`count` different architectures in the order drawn; a larger sample extends a smaller one.

        Raises:
            InputError: `count` below 1 or above the size of the space.
        """
        if count < 1:
            raise InputError(f"--sample must be at least 1, not {count}")
        if self.size is not None and count > self.size:
            raise InputError(f"--sample {count} is more than the {self.size} architectures of {self.name}")
        if self.size is not None and self.size <= ENUMERABLE_SIZE:
            everything = list(self)
            return [everything[index] for index in rng.permutation(len(everything))[:count]]
        drawn: dict[ArchitectureT, None] = {}
        while len(drawn) < count:
            drawn[self.sample(rng)] = None
        return list(drawn)


AnySpace = SearchSpace[Any, Any]
