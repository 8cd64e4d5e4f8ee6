"""Primitive operations that spaces share, each with its source."""

from __future__ import annotations

from torch import Tensor, nn


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, batch norm (NAS-Bench-201's nor_conv; DARTS's order too)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        output: Tensor = self.norm(self.convolution(self.relu(x)))
        return output


def average_pool_3x3() -> nn.AvgPool2d:
    """3x3 average pooling at stride 1; pixels of the padding are not counted (NAS-Bench-201)."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
