"""Python loops compiled by numba when first called: the user needs no compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

Function = Callable[..., Any]


def compiled(**settings: Any) -> Callable[[Function], Function]:
    """Decorator with settings of `numba.njit`; kept on disk where the machine lets numba write a cache."""

    def compile_(function: Function) -> Function:
        try:
            dispatcher: Function = numba.njit(cache=True, **settings)(function)
        except RuntimeError:
            dispatcher = numba.njit(**settings)(function)
        return dispatcher

    return compile_
