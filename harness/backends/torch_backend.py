"""Run plans with torch operations on any device; the reference of every other backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, reduce
from operator import add
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.loops import channel_moments, normalise, pool_around
from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Step, Sum
from spaces.weights import draw_weight

EPSILON = 1e-5
"""torch's and NAS-Bench-201's constant under the square root of batch norm."""

Buffer = TypeVar("Buffer")
ComputedStep = Convolution | AveragePool | Sum | BatchNorm


class TorchBackend:
    """Runs plans on `device` with the weights of `seed`; a weight is drawn once and kept on the device.

    Feature maps lie in memory as `memory_format` says. It changes last digits on CUDA: leave it where scores
    are kept.
    """

    name = "torch"

    def __init__(
        self, device: torch.device, seed: int, memory_format: torch.memory_format = torch.channels_last
    ) -> None:
        self.device = device
        self.seed = seed
        self._memory_format = memory_format
        self._weight = lru_cache(maxsize=None)(self._draw)

    def kernel(self, plan: Plan, images: Tensor) -> NDArray[np.int64] | None:
        """K of the plan's codes, int64 [B, B]; None where the plan counts no ReLU.

        images: float32 [B, C, H, W] on the backend's device.
        """
        with torch.inference_mode(), exact_float32():
            matrix = self.count(plan, images)
        return matrix.matrix() if matrix.units else None

    def count(self, plan: Plan, images: Tensor) -> KernelMatrix:
        """The kernel of the plan's codes, under torch's settings as they are; does not wait for the device."""
        matrix = KernelMatrix(images.shape[0])
        self._run(plan, images, lambda relu_input, step: matrix.add(relu_input, step.multiplicity))
        matrix.add_off(plan.off_units)
        return matrix

    def run(self, plan: Plan, images: Tensor, read: Callable[[Tensor, ReLUCode], None]) -> None:
        """Run the steps in order and hand every counted ReLU's input, [B, C, H, W], to `read`."""
        with torch.inference_mode(), exact_float32():
            self._run(plan, images, read)

    def _run(self, plan: Plan, images: Tensor, read: Callable[[Tensor, ReLUCode], None]) -> None:
        walk(plan, self._checked(plan, images), self._compute, read)

    def _checked(self, plan: Plan, images: Tensor) -> Tensor:
        """The images in the backend's layout. Raises ValueError if they do not have the plan's shape."""
        if tuple(images.shape[1:]) != plan.input_shape:
            raise ValueError(f"plan takes images of shape {plan.input_shape}, not {tuple(images.shape[1:])}")
        return images.contiguous(memory_format=self._memory_format)

    def _compute(self, step: ComputedStep, buffers: dict[str, Tensor]) -> Tensor:
        match step:
            case Convolution():
                source = buffers[step.source]
                output = self._convolve(step, F.relu(source) if step.rectify else source)
                return batch_norm(output, in_place=True) if step.normalise else output
            case AveragePool():
                return average_pool(step, buffers[step.source])
            case Sum():
                return total(buffers[term] for term in step.terms)
            case BatchNorm():
                return batch_norm(buffers[step.source])

    def _convolve(self, step: Convolution, inputs: Tensor) -> Tensor:
        """The convolution alone: `inputs` are rectified if they should be."""
        return F.conv2d(
            inputs, self._weight(step.weight, step.shape), stride=step.stride, padding=step.shape[2] // 2
        )

    def _draw(self, name: str, shape: tuple[int, int, int, int]) -> Tensor:
        weight = torch.from_numpy(draw_weight(name, shape, shape[1] * shape[2] * shape[3], self.seed))
        return weight.to(self.device).contiguous(memory_format=self._memory_format)


def walk(
    plan: Plan,
    images: Buffer,
    compute: Callable[[ComputedStep, dict[str, Buffer]], Buffer],
    read: Callable[[Buffer, ReLUCode], None],
) -> None:
    """Compute the steps in order from the buffers so far, hand codes to `read`, let go of what is used up."""
    last_uses = plan.last_uses()
    buffers = {IMAGES: images}
    for index, step in enumerate(plan.steps):
        if isinstance(step, ReLUCode):
            read(buffers[step.source], step)
        else:
            buffers[step.output] = compute(step, buffers)
        for name in [name for name in buffers if last_uses.get(name, -1) <= index and name != _output(step)]:
            del buffers[name]


def _output(step: Step) -> str | None:
    return None if isinstance(step, ReLUCode) else step.output


def average_pool(step: AveragePool, x: Tensor) -> Tensor:
    """Mean over each window of x [B, C, H, W]; pixels of the padding are not counted."""
    if x.device.type == "cpu" and (step.kernel, step.stride, step.padding) == (3, 1, 1) and x.shape[3] > 1:
        return _pooled_around(x)
    return F.avg_pool2d(x, step.kernel, step.stride, step.padding, count_include_pad=False)


def _pooled_around(x: Tensor) -> Tensor:
    """`average_pool` over the 3x3 pixels around each, on CPU: torch's own takes five times as long."""
    pixels = x.permute(0, 2, 3, 1)
    images, height, width, channels = pixels.shape
    values = pixels.reshape(images, height, width * channels).numpy()
    pooled = np.empty_like(values)
    pool_around(values, channels, pooled)
    return torch.from_numpy(pooled).view(pixels.shape).permute(0, 3, 1, 2)


def total(terms: Iterable[Tensor]) -> Tensor:
    """Sum of the terms, from left to right."""
    return reduce(add, terms)


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32, and one algorithm for one shape, on CUDA; torch's settings are as before afterwards."""
    settings = _exact_settings()
    kept = [getattr(owner, name) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(settings, kept, strict=True):
            setattr(owner, name, value)


def _exact_settings() -> list[tuple[Any, str, bool | str]]:
    """(owner, attribute, value) of each setting.

    Since 2.9 torch has a precision for each operation, and the old switches may not be read where a user has
    set one of those; before, there are only the old switches.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    precision: list[tuple[Any, str, bool | str]] = (
        [(cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
        if hasattr(cudnn, "conv")
        else [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    )
    return [(cudnn, "enabled", True), (cudnn, "benchmark", False), (cudnn, "deterministic", True), *precision]


def batch_norm(x: Tensor, *, in_place: bool = False) -> Tensor:
    """x [B, C, H, W] with each channel at mean 0 and variance 1 over the batch; scale 1, shift 0.

    On CPU the sums run in one fixed order: torch's own reduction over channels-last memory is split by the
    number of threads, and its last bits with it. `in_place` allows that x is written over.
    """
    if x.device.type != "cpu":
        return F.batch_norm(x, None, None, training=True, eps=EPSILON)
    pixels = x.permute(0, 2, 3, 1)
    values = pixels.reshape(-1, x.shape[1]).numpy()
    mean, variance = np.empty((2, x.shape[1]))
    channel_moments(values, mean, variance)
    scale = 1 / np.sqrt(variance + EPSILON)
    out = values if in_place else values.copy()
    normalise(out, scale.astype(np.float32), (-mean * scale).astype(np.float32))
    return torch.from_numpy(out).view(pixels.shape).permute(0, 3, 1, 2)
