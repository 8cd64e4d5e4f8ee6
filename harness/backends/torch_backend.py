"""Run plans with torch operations on any device; the reference of every other backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.popcount import channel_moments
from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Step, Sum
from spaces.weights import draw_weight

EPSILON = 1e-5
"""torch's and NAS-Bench-201's constant under the square root of batch norm."""


class TorchBackend:
    """Runs plans on `device` with the weights of `seed`; a weight is drawn once and kept."""

    name = "torch"

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device = device
        self.seed = seed
        self._weight = lru_cache(maxsize=None)(self._draw)

    def kernel(self, plan: Plan, images: Tensor) -> NDArray[np.int64] | None:
        """K of the plan's codes, int64 [B, B]; None where the plan counts no ReLU.

        images: float32 [B, C, H, W] on the backend's device.
        """
        matrix = KernelMatrix(images.shape[0])
        self.run(plan, images, lambda relu_input, step: matrix.add(relu_input, step.multiplicity))
        if plan.off_units:
            matrix.add_off(plan.off_units)
        return matrix.matrix() if matrix.units else None

    def run(self, plan: Plan, images: Tensor, read: Callable[[Tensor, ReLUCode], None]) -> None:
        """Run the steps in order and hand every counted ReLU's input, [B, C, H, W], to `read`."""
        if tuple(images.shape[1:]) != plan.input_shape:
            raise ValueError(f"plan takes images of shape {plan.input_shape}, not {tuple(images.shape[1:])}")
        with torch.inference_mode(), _exact_float32():
            self._run(plan, images, read)

    def _run(self, plan: Plan, images: Tensor, read: Callable[[Tensor, ReLUCode], None]) -> None:
        last_uses = plan.last_uses()
        buffers = {IMAGES: images.contiguous(memory_format=torch.channels_last)}
        for index, step in enumerate(plan.steps):
            if isinstance(step, ReLUCode):
                read(buffers[step.source], step)
            else:
                buffers[step.output] = self._compute(step, buffers)
            for name in [name for name in buffers if last_uses.get(name, -1) <= index and name != _output(step)]:
                del buffers[name]

    def _compute(self, step: Step, buffers: dict[str, Tensor]) -> Tensor:
        match step:
            case Convolution():
                source = buffers[step.source]
                weight = self._weight(step.weight, step.shape)
                inputs = F.relu(source) if step.rectify else source
                output = F.conv2d(inputs, weight, stride=step.stride, padding=step.shape[2] // 2)
                return batch_norm(output) if step.normalise else output
            case AveragePool():
                return F.avg_pool2d(
                    buffers[step.source], step.kernel, step.stride, step.padding, count_include_pad=False
                )
            case Sum():
                total, *rest = (buffers[term] for term in step.terms)
                for term in rest:
                    total = total + term
                return total
            case BatchNorm():
                return batch_norm(buffers[step.source])
            case ReLUCode():
                raise TypeError("a code is read, not computed")

    def _draw(self, name: str, shape: tuple[int, int, int, int]) -> Tensor:
        weight = torch.from_numpy(draw_weight(name, shape, shape[1] * shape[2] * shape[3], self.seed))
        return weight.to(self.device).contiguous(memory_format=torch.channels_last)


def _exact_float32() -> AbstractContextManager[None]:
    """No TF32 and one algorithm for one shape on CUDA; nothing to do on CPU."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return context


def _output(step: Step) -> str | None:
    return None if isinstance(step, ReLUCode) else step.output


def batch_norm(x: Tensor) -> Tensor:
    """x [B, C, H, W] with each channel at mean 0 and variance 1 over the batch; scale 1, shift 0.

    On CPU the sums run in one fixed order: torch's own reduction over channels-last memory is split by the
    number of threads, and its last bits with it.
    """
    if x.device.type != "cpu":
        return F.batch_norm(x, None, None, training=True, eps=EPSILON)
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).numpy()
    mean, variance = np.empty((2, x.shape[1]), np.float32)
    channel_moments(rows, mean, variance)
    return F.batch_norm(x, torch.from_numpy(mean), torch.from_numpy(variance), training=False, eps=EPSILON)
