"""A user's own networks as a space: `python:module:factory`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
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

    def __init__(self, name: str, constructors: Mapping[str, Callable[[], nn.Module]], code: str) -> None:
        self.name = name  # type: ignore[misc]
        self.code = code
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
    made, code = _run_factory(name, module_name, factory_name)
    if isinstance(made, SearchSpace):
        return made
    if isinstance(made, Mapping) and made and all(isinstance(key, str) and callable(made[key]) for key in made):
        return OwnNetworks(name, made, code)
    raise InputError(
        f"--space {name!r}: the factory returned {type(made).__name__}; "
        "expected a mapping from names to callables that build a torch.nn.Module, or a SearchSpace"
    )


def _run_factory(name: str, module_name: str, factory_name: str) -> tuple[object, str]:
    """What the factory returns, and a fingerprint of its module's file: edited networks get new scores."""
    try:
        module = import_module(module_name)
        if not hasattr(module, factory_name):
            raise InputError(f"--space {name!r}: module {module_name!r} has no {factory_name!r}")
        factory = getattr(module, factory_name)
        made = factory() if callable(factory) else factory
    except ModuleNotFoundError as error:
        raise InputError(f"--space {name!r}: cannot import module {module_name!r}: {error}") from error
    except InputError:
        raise
    except Exception as error:  # the user's code may raise anything, a syntax error included
        raise InputError(f"--space {name!r} failed: {type(error).__name__}: {error}") from error
    source = getattr(module, "__file__", None)
    return made, blake2b(Path(source).read_bytes(), digest_size=8).hexdigest() if source else ""
