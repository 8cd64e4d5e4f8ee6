"""Load the compiled engine in the build that fits this processor, and call it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

LEVELS = (4, 3, 1)
"""x86-64 levels that builds exist for; level 1 is plain C++ and is the build of every other processor."""


class Term(Structure):
    """program.h's Term."""

    _fields_ = (
        ("source", c_int64),
        ("affine", c_int64),
        ("height", c_int32),
        ("width", c_int32),
        ("kernel", c_int32),
        ("stride", c_int32),
        ("padding", c_int32),
    )


class Convolution(Structure):
    """program.h's Convolution."""

    _fields_ = (
        ("output", c_int64),
        ("affine", c_int64),
        ("weights", c_void_p),
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("kernel", c_int32),
        ("stride", c_int32),
        ("winograd", c_int32),
    )


class Pass(Structure):
    """program.h's Pass."""

    _fields_ = (
        ("output", c_int64),
        ("affine", c_int64),
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("rectify", c_int32),
        ("multiplicity", c_int32),
        ("term_begin", c_int32),
        ("term_end", c_int32),
        ("convolution_begin", c_int32),
        ("convolution_end", c_int32),
    )


class Program(Structure):
    """program.h's Program."""

    _fields_ = (
        ("passes", POINTER(Pass)),
        ("terms", POINTER(Term)),
        ("convolutions", POINTER(Convolution)),
        ("pass_count", c_int64),
        ("arena_floats", c_int64),
        ("affine_floats", c_int64),
        ("batch", c_int32),
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
    )


class Library:
    """The functions of one build, typed."""

    def __init__(self, path: Path) -> None:
        """Load `path`; OSError where it is no library for this machine."""
        loaded = ctypes.CDLL(str(path))
        self.create = _function(loaded.tfnas_create, c_void_p)
        self.destroy = _function(loaded.tfnas_destroy, None, c_void_p)
        self.run = _function(
            loaded.tfnas_run, c_int, c_void_p, POINTER(Program), POINTER(c_float), POINTER(c_int64)
        )
        self.read = _function(loaded.tfnas_read, None, c_void_p, c_int64, c_int64, POINTER(c_float))
        self.fused = bool(_function(loaded.tfnas_fused, c_int)())
        self.level = int(_function(loaded.tfnas_level, c_int)())


def build(level: int) -> Path | None:
    """File of the build for an x86-64 level, where it was compiled."""
    found = [
        path for path in Path(__file__).parent.glob(f"engine_level{level}.*") if path.suffix in (".so", ".pyd")
    ]
    return max(found, default=None)


@cache
def best_library() -> Library:
    """The fastest build that this processor runs.

    Raises:
        OSError: no build was compiled here, or none loads.
    """
    plain = build(1)
    if plain is None:
        raise OSError("tfnas was installed without its compiled engine (no C++ compiler was found then)")
    level = Library(plain).level
    path = next(path for each in LEVELS if each <= level and (path := build(each)) is not None)
    return Library(path)


def _function(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    function.restype = result
    function.argtypes = arguments
    typed: Callable[..., Any] = function
    return typed
