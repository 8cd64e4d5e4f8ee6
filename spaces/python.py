"""A user's own networks as a space: `python:module:factory`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from spaces.base import AnySpace, NetworkConfig, SearchSpace
from spaces.errors import InputError
from spaces.modules import NamedNetworks

if TYPE_CHECKING:
    from torch import nn


class OwnNetworks(NamedNetworks[NetworkConfig]):
    """Networks that a user's factory builds, by the names it gives them."""

    description = "networks of your own, from a Python factory"
    config_type = NetworkConfig

    def __init__(self, name: str, constructors: Mapping[str, Callable[[], nn.Module]]) -> None:
        self.name = name  # type: ignore[misc]
        self._constructors = constructors

    def names(self) -> list[str]:
        """Names in the order of the factory's mapping."""
        return list(self._constructors)

    def build(self, name: str, config: NetworkConfig) -> nn.Module:
        """The network that its constructor returns; it decides its classes and channels itself."""
        from torch import nn

        del config
        network = self._constructors[name]()
        if not isinstance(network, nn.Module):
            raise InputError(
                f"{self.name}: the constructor of {name!r} returned {type(network).__name__}, not a nn.Module"
            )
        return network


def space_from_factory(name: str) -> AnySpace:
    """Space of `python:module:factory`, the module importable from here or the working directory.

    The factory takes no argument and returns a mapping from names to constructors of `torch.nn.Module`
    (callables without arguments, for example classes), or a `SearchSpace` of its own.

    Raises:
        InputError: the text, the module, the factory or what it returns is not as said.
    """
    parts = name.split(":")
    if len(parts) != 3 or not all(parts):
        raise InputError(f"--space {name!r} must read python:MODULE:FACTORY")
    _, module_name, factory_name = parts
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(import_module(module_name), factory_name)
    except ImportError as error:
        raise InputError(f"--space {name!r}: cannot import module {module_name!r}: {error}") from error
    except AttributeError as error:
        raise InputError(f"--space {name!r}: module {module_name!r} has no {factory_name!r}") from error
    made = factory() if callable(factory) else factory
    if isinstance(made, SearchSpace):
        return made
    if isinstance(made, Mapping) and made and all(callable(constructor) for constructor in made.values()):
        return OwnNetworks(name, made)
    raise InputError(
        f"--space {name!r}: the factory returned {type(made).__name__}; "
        "expected a mapping from names to callables that build a torch.nn.Module, or a SearchSpace"
    )
