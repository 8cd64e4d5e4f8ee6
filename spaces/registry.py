"""How spaces are found by name: installed ones by entry point, the user's own by module and factory."""

from __future__ import annotations

from importlib.metadata import entry_points

from spaces.base import AnySpace
from spaces.errors import InputError
from spaces.python import space_from_factory

ENTRY_POINT_GROUP = "tfnas.spaces"


def space_names() -> list[str]:
    """Names of the installed spaces, sorted."""
    return sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))


def load_space(name: str) -> AnySpace:
    """The space of this name, or the user's own from `python:module:factory`.

    Raises:
        InputError: unknown name, with the names that exist; or a factory that cannot be used.
    """
    if name.startswith("python:"):
        return space_from_factory(name)
    found = [entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == name]
    if not found:
        raise InputError(f"unknown space {name!r}; allowed: {', '.join(space_names())}, python:MODULE:FACTORY")
    space: AnySpace = found[0].load()()
    return space
