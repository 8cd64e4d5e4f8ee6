"""Which architectures a command works on: a seeded sample, all of the space, or a list of the user's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spaces.base import AnySpace, Architecture
from spaces.errors import InputError


def select_architectures(
    space: AnySpace,
    *,
    sample: int | None,
    everything: bool,
    architectures: Path | None,
    seed: int,
    genotypes: Sequence[str] = (),
) -> list[Architecture]:
    """The architectures of one of `--sample N`, `--all` and `--architectures FILE` (`-` reads standard input).

    Or those whose texts are given as `genotypes`, where a command has `--genotype TEXT`. A file holds one
    architecture a line; empty lines and lines that begin with `#` are passed over.

    Raises:
        InputError: none or several of the three are given, the file cannot be read, or a line does not parse.
    """
    if genotypes and sample is None and not everything and architectures is None:
        return [space.parse(text) for text in genotypes]
    given = [sample is not None, everything, architectures is not None, bool(genotypes)]
    if sum(given) != 1:
        raise InputError("give exactly one of --sample N, --all and --architectures FILE")
    if sample is not None:
        return list(space.sample_distinct(sample, np.random.default_rng(seed)))
    if everything:
        return list(space)
    assert architectures is not None
    return _parse_lines(space, architectures)


def _parse_lines(space: AnySpace, path: Path) -> list[Architecture]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--architectures {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--architectures {path} is not text in UTF-8: {error.reason}") from error
    found: list[Architecture] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(space.parse(line.strip()))
            except InputError as error:
                raise InputError(f"--architectures {path}, line {number}: {error}") from error
    if not found:
        raise InputError(f"--architectures {path} holds no architecture; expected one a line")
    return found
