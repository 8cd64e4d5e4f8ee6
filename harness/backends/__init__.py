"""Run plans: the inputs of all counted ReLUs, as codes, on one device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from spaces.errors import InputError
from spaces.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

BACKENDS = ("auto", "native", "triton", "torch")


class Backend(Protocol):
    """Runs plans with the weights of `seed`. Its name is part of a score's key: last digits differ between two."""

    name: str
    device: torch.device
    seed: int

    def kernel(self, plan: Plan, images: Tensor) -> NDArray[np.int64] | None:
        """K of the plan's codes on images float32 [B, C, H, W]; int64 [B, B], None without a counted ReLU."""


def choose_backend(wanted: str, device: str, plans: Iterable[Plan | None]) -> tuple[str, str | None]:
    """Name of the backend for these plans, and why it is not the native one.

    `auto` takes the native backend wherever it was compiled, the device is the CPU and it knows all steps of
    the plans, else torch. The Triton backend serves on request alone, until it has been measured on a card.

    Raises:
        InputError: unknown name, or one is wanted that cannot serve.
    """
    if wanted not in BACKENDS:
        raise InputError(f"unknown backend {wanted!r}; allowed: {', '.join(BACKENDS)}")
    if wanted == "torch":
        return "torch", None
    plans = list(plans)
    if wanted == "triton":
        reason = _why_not_triton(device, plans)
        if reason is not None:
            raise InputError(f"--backend triton: {reason}")
        return "triton", None
    reason = _why_not_native(device, plans)
    if reason is None:
        from harness.backends.native import NativeBackend

        return NativeBackend.name_here(), None
    if wanted == "native":
        raise InputError(f"--backend native: {reason}")
    return "torch", reason


def load_backend(name: str, device: torch.device, seed: int) -> Backend:
    """The backend that `choose_backend` named."""
    if name == "torch":
        from harness.backends.torch_backend import TorchBackend

        return TorchBackend(device, seed)
    if name == "triton":
        from harness.backends.triton_backend import TritonBackend

        return TritonBackend(device, seed)
    from harness.backends.native import NativeBackend

    return NativeBackend(device, seed)


def _why_not_triton(device: str, plans: Sequence[Plan | None]) -> str | None:
    if device != "cuda":
        return f"the triton backend runs on cuda, not on {device}"
    if find_spec("triton") is None:
        return "triton is not installed"
    return "these networks have no plan" if None in plans else None


def _why_not_native(device: str, plans: Iterable[Plan | None]) -> str | None:
    if device != "cpu":
        return f"the native backend runs on cpu, not on {device}"
    from harness.backends.native import unavailable
    from harness.backends.native.lowering import unsupported

    reason = unavailable()
    for plan in plans:
        if reason is None:
            reason = "these networks have no plan" if plan is None else unsupported(plan)
    return reason
