"""`tfnas spaces`, `scorers` and `datasets`: what there is."""

from __future__ import annotations

from collections.abc import Mapping

from harness.cli.options import Json, print_json


def list_spaces(as_json: Json = False) -> None:
    """List the search spaces."""
    from spaces.registry import load_space, space_names

    described = {name: load_space(name).description for name in space_names()}
    described["python:MODULE:FACTORY"] = "networks of your own, from a factory in a Python module"
    _print(described, as_json)


def list_scorers(as_json: Json = False) -> None:
    """List the scorers."""
    from harness.scorers.base import load_scorer, scorer_names

    _print({name: load_scorer(name).description for name in scorer_names()}, as_json)


def list_datasets(as_json: Json = False) -> None:
    """List the data sets."""
    from harness.datasets import dataset_names

    _print(dataset_names(), as_json)


def _print(described: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "description": text} for name, text in described.items()])
        return
    width = max(map(len, described))
    for name, text in described.items():
        print(f"{name:<{width}}  {text}")
