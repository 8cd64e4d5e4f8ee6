"""What this machine has: cores, memory, devices, and the versions of what runs on it."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from spaces.errors import InputError

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return kilobytes["MemAvailable"] * 1024 if "MemAvailable" in kilobytes else None


def resolve_device(name: str) -> torch.device:
    """Device of `cpu`, `cuda` or `auto`. Raises `InputError` for another name, or cuda where there is none."""
    import torch

    if name not in ("cpu", "cuda", "auto"):
        raise InputError(f"unknown device {name!r}; allowed: cpu, cuda, auto")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise InputError("--device cuda: torch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


@cache
def versions() -> str:
    """Versions that a result was made with, on one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tfnas", "torch", "numpy"))
    return f"{packages}, python {platform.python_version()}"
