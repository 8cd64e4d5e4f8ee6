"""Modules of the steps of a path, and how their weights are named."""

from __future__ import annotations

import re

from torch import Tensor, nn

from spaces.hypercuboid.path import MAX_POOL, StepShape
from spaces.operations import NormalisedOperation, NormalisedPool, SharpSepConv


class ResizablePool(NormalisedOperation):
    """Pooling, pointwise convolution to another width, batch norm (sharpDARTS, cnn/operations.py)."""

    rectified = False

    def __init__(self, pool: nn.Module, in_channels: int, out_channels: int, *, affine: bool = True) -> None:
        super().__init__(out_channels, affine=affine)
        self.pool = pool
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def body(self, x: Tensor) -> Tensor:
        """Pool, then pointwise."""
        output: Tensor = self.pointwise(self.pool(x))
        return output


def make_operation(step: StepShape, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Module of a step of a standalone network: a pool that keeps the width is nothing else."""
    if step.primitive == MAX_POOL and in_channels == out_channels:
        return make_pool(step, stride)
    return make_normalised_operation(step, in_channels, out_channels, stride, affine=True)


def make_normalised_operation(
    step: StepShape, in_channels: int, out_channels: int, stride: int, *, affine: bool = False
) -> NormalisedPool | ResizablePool | SharpSepConv:
    """Module of a step of a supernet: all end in a batch norm, so that none is louder than another."""
    if step.primitive == MAX_POOL:
        pool = make_pool(step, stride)
        if in_channels == out_channels:
            return NormalisedPool(pool, out_channels, affine=affine)
        return ResizablePool(pool, in_channels, out_channels, affine=affine)
    middle = step.middle * out_channels
    return SharpSepConv(
        in_channels, middle, out_channels, step.kernel, stride, dilation=step.dilation, affine=affine
    )


def make_pool(step: StepShape, stride: int) -> nn.MaxPool2d:
    """Maximum pooling that keeps height and width at stride 1; it has no dilation."""
    return nn.MaxPool2d(step.kernel, stride=stride, padding=step.kernel // 2)


def operation_name(in_width: int, out_width: int, step: StepShape) -> str:
    """Name of an operation within its step, by widths as multiples of the smallest."""
    return f"{in_width}-{out_width}-{step.name}"


FIRST_DEPTHWISE = re.compile(r"(\d+)-\d+-\w+-(k\d+-d\d+)-m\d+\.first_depthwise")


def tied_name(name: str) -> str:
    """Name by which a weight is drawn, in the supernet and in the network of a path.

    The first depthwise convolution does not know which width comes out: one pass of it feeds them all.
    """
    return FIRST_DEPTHWISE.sub(r"\1-\2.first_depthwise", name.replace(".operations.", "."))
