"""Run plans with the compiled engine: the CPU backend of every plan that it supports."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.backends.native.library import Library, best_library
from harness.backends.native.lowering import checked_shapes, unsupported
from harness.backends.native.packing import pack
from harness.backends.native.program import LANES, Program, assemble
from spaces.plan import Convolution, Plan, ReLUCode
from spaces.weights import draw_weight


def unavailable() -> str | None:
    """Why there is no native backend here, in one line; None where there is."""
    try:
        best_library()
    except OSError as error:
        return str(error)
    return None


class NativeBackend:
    """Runs plans on the CPU with the weights of `seed`, in one thread; weights and memory are kept.

    Scores do not depend on what ran before. One object serves one thread at a time. `name` tells builds
    apart whose last bits differ.
    """

    def __init__(self, device: torch.device, seed: int, build: Path | None = None) -> None:
        """Use the fastest build for this processor, or the one in the file `build`.

        Raises:
            ValueError: the device is not the CPU.
            OSError: see `unavailable`.
        """
        if device.type != "cpu":
            raise ValueError(f"the native backend runs on cpu, not on {device}")
        self.device = device
        self.seed = seed
        self._library = Library(build) if build else best_library()
        self.name = "native" if self._library.fused else "native-plain"
        self._engine = self._library.create()
        if not self._engine:
            raise MemoryError("no room for the native engine")
        weakref.finalize(self, self._library.destroy, self._engine)
        self._packed = lru_cache(maxsize=None)(self._pack)

    @staticmethod
    def name_here() -> str:
        """The name that the backend has on this machine."""
        return "native" if best_library().fused else "native-plain"

    def supports(self, plan: Plan) -> str | None:
        """Why this backend cannot run a plan, in one line; None where it can."""
        return unsupported(plan)

    def kernel(self, plan: Plan, images: Tensor) -> NDArray[np.int64] | None:
        """K of the plan's codes, int64 [B, B]; None where the plan counts no ReLU.

        images: float32 [B, C, H, W].

        Raises:
            ValueError: images, or a step, of a shape that does not fit; a plan that is not supported.
        """
        kernel = np.full((len(images), len(images)), plan.off_units, np.int64)
        self._run(plan, images, kernel)
        return kernel if plan.off_units or any(isinstance(step, ReLUCode) for step in plan.steps) else None

    def values(self, plan: Plan, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """What the named buffers of a plan hold, float32 [B, C, H, W] each; raises as `kernel` does."""
        program = self._run(plan, images, np.zeros((len(images), len(images)), np.int64), names)
        shapes = checked_shapes(plan)
        return {name: self._read(program.kept[name], len(images), shapes[name]) for name in names}

    def _run(self, plan: Plan, images: Tensor, kernel: NDArray[np.int64], kept: Sequence[str] = ()) -> Program:
        if images.dtype != torch.float32 or tuple(images.shape[1:]) != plan.input_shape or len(images) == 0:
            found = f"{images.dtype} {tuple(images.shape)}"
            raise ValueError(f"plan takes a batch of float32 images of shape {plan.input_shape}, not {found}")
        if reason := unsupported(plan):
            raise ValueError(reason)
        pixels = np.ascontiguousarray(images.numpy())
        program = assemble(plan, checked_shapes(plan), len(images), self._weights, kept)
        failed = self._library.run(
            self._engine,
            ctypes.byref(program.record),
            pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            kernel.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)),
        )
        if failed:
            raise MemoryError(f"no room for {4 * program.record.arena_floats / 2**30:.1f} GiB of feature maps")
        return program

    def _read(self, offset: int, batch: int, shape: tuple[int, int, int]) -> Tensor:
        channels, height, width = shape
        groups = -(-batch // LANES)
        values = np.empty((groups, height, channels, width, LANES), np.float32)
        self._library.read(
            self._engine, offset, values.size, values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        )
        return torch.from_numpy(values.transpose(0, 4, 2, 1, 3).reshape(-1, *shape)[:batch].copy())

    def _weights(self, convolution: Convolution, winograd: bool) -> int:
        return self._packed(convolution.weight, convolution.shape, winograd).ctypes.data

    def _pack(self, name: str, shape: tuple[int, int, int, int], winograd: bool) -> NDArray[np.float32]:
        return pack(draw_weight(name, shape, shape[1] * shape[2] * shape[3], self.seed), winograd)
