"""Modules of the operations of sharpDARTS."""

from __future__ import annotations

from torch import nn

from spaces.darts.network import make_operation as make_darts_operation
from spaces.operations import SharpSepConv
from spaces.sharpdarts.primitives import KERNEL, SHARP


def make_operation(
    operation: str, channels: int, stride: int, *, affine: bool = True, choke_channels: int
) -> nn.Module:
    """Module of one operation other than `none`; pools and skip-connections are those of DARTS."""
    if operation not in SHARP:
        return make_darts_operation(operation, channels, stride, affine=affine)
    shape = SHARP[operation]
    middle = shape.middle(channels, choke_channels)
    return SharpSepConv(channels, middle, channels, KERNEL, stride, dilation=shape.dilation, affine=affine)
