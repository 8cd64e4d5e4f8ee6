"""Primitive operations that spaces share, each with its source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.costs import squeezed
from spaces.weights import draw_weight


class NormalisedOperation(nn.Module, ABC):
    """ReLU where `rectified`, a body without bias, batch norm: the shape of nearly every primitive.

    A supernet runs the parts itself, so that the operations of an edge share one ReLU, and so that the weight
    of an operation becomes the scale of its batch norm.
    """

    rectified = True

    def __init__(self, out_channels: int, *, affine: bool = True) -> None:
        super().__init__()
        if self.rectified:
            self.relu = nn.ReLU()
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    @abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W], already rectified, to [B, C_out, H / stride, W / stride], not yet normalised."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] to [B, C_out, H / stride, W / stride]."""
        output: Tensor = self.norm(self.body(self.relu(x) if self.rectified else x))
        return output


class ReLUConvBN(NormalisedOperation):
    """ReLU, convolution without bias, batch norm (NAS-Bench-201's nor_conv; DARTS's order too)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, affine: bool = True
    ) -> None:
        super().__init__(out_channels, affine=affine)
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        )

    def body(self, x: Tensor) -> Tensor:
        """The convolution."""
        output: Tensor = self.convolution(x)
        return output


class DilatedConv(NormalisedOperation):
    """ReLU, depthwise k x k convolution of dilation 2, pointwise convolution, batch norm (DARTS's dil_conv)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, *, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.depthwise = depthwise(channels, kernel, stride, dilation=2)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def body(self, x: Tensor) -> Tensor:
        """Depthwise, then pointwise."""
        output: Tensor = self.pointwise(self.depthwise(x))
        return output

    def body_of_phases(self, phases: Tensor) -> Tensor:
        """The body at stride 1 of an input that `split_phases` took apart, taken apart as well."""
        output: Tensor = self.pointwise(depthwise_of_phases(self.depthwise, phases))
        return output


class SharpSepConv(NormalisedOperation):
    """Twice ReLU, depthwise k x k, pointwise, batch norm, with `middle` channels between the two.

    Only the first has the stride and the dilation (sharpDARTS, cnn/operations.py).
    """

    def __init__(
        self,
        in_channels: int,
        middle: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        affine: bool = True,
    ) -> None:
        super().__init__(out_channels, affine=affine)
        self.first_depthwise = depthwise(in_channels, kernel, stride, dilation)
        self.first_pointwise = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(middle, affine=affine)
        self.second_relu = nn.ReLU()
        self.second_depthwise = depthwise(middle, kernel)
        self.second_pointwise = nn.Conv2d(middle, out_channels, 1, bias=False)

    def body(self, x: Tensor) -> Tensor:
        """All up to the second batch norm."""
        return self._after_first(self.first_depthwise(x))

    def body_of_phases(self, phases: Tensor) -> Tensor:
        """The body at stride 1 and dilation 2 of an input that `split_phases` took apart, in one piece."""
        return self._after_first(join_phases(depthwise_of_phases(self.first_depthwise, phases)))

    def _after_first(self, spread: Tensor) -> Tensor:
        between = self.second_relu(self.first_norm(self.first_pointwise(spread)))
        output: Tensor = self.second_pointwise(self.second_depthwise(between))
        return output


class SeparableConv(SharpSepConv):
    """The same with one width and no dilation (DARTS's sep_conv)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, *, affine: bool = True) -> None:
        super().__init__(channels, channels, channels, kernel, stride, affine=affine)


class FactorisedReduction(NormalisedOperation):
    """ReLU, two 1x1 convolutions of every second pixel side by side, batch norm: a skip-connection that reduces.

    The second reads one pixel further along both axes (DARTS, cnn/operations.py, FactorizedReduce); height,
    width and `out_channels` must be even.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True) -> None:
        super().__init__(out_channels, affine=affine)
        # Pixels are picked before, not by a stride: in the layout channels last, the backward pass of torch's
        # strided 1x1 convolution writes past its memory where fewer than 8 channels come in (torch 2.14, CPU).
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)

    def body(self, x: Tensor) -> Tensor:
        """Both halves, even pixels first."""
        return torch.cat((self.even(x[:, :, ::2, ::2]), self.odd(x[:, :, 1::2, 1::2])), 1)


class NormalisedPool(NormalisedOperation):
    """Pooling, then batch norm: what a supernet has in place of a pool (DARTS, cnn/model_search.py)."""

    rectified = False

    def __init__(self, pool: nn.Module, channels: int, *, affine: bool = False) -> None:
        super().__init__(channels, affine=affine)
        self.pool = pool

    def body(self, x: Tensor) -> Tensor:
        """The pool."""
        output: Tensor = self.pool(x)
        return output


class SqueezeExcitation(nn.Module):
    """Each channel times a gate in (0, 1) made of the means of all (Hu et al., CVPR 2018); batch norm is not used.

    Its ReLU is not a module: scores that count ReLUs look at feature maps, not at means over them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed(channels), 1)
        self.excite = nn.Conv2d(squeezed(channels), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


def split_phases(x: Tensor) -> Tensor:
    """[B, C, H, W] to [4 B, C, H / 2, W / 2]: even and odd rows, and of each the even and odd columns.

    A convolution of dilation 2 is one without dilation on each of the four parts.
    """
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    parts = pixels.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return parts.permute(0, 3, 1, 2)


def depthwise_of_phases(convolution: nn.Conv2d, phases: Tensor) -> Tensor:
    """A depthwise convolution of dilation 2 and stride 1 on what `split_phases` took apart, taken apart as well.

    Equal to the bit, and its backward pass on CPU takes a fourth of the time or less: kernels for depthwise
    weights know no dilation.
    """
    channels, _, kernel, _ = convolution.weight.shape
    return F.conv2d(phases, convolution.weight, padding=kernel // 2, groups=channels)


def has_phases(convolution: nn.Conv2d, x: Tensor) -> bool:
    """Whether `depthwise_of_phases` can stand for a convolution of x [B, C, H, W]."""
    return (
        convolution.stride == (1, 1)
        and convolution.dilation == (2, 2)
        and x.shape[2] % 2 == 0
        and x.shape[3] % 2 == 0
    )


def join_phases(phases: Tensor) -> Tensor:
    """What `split_phases` took apart, in one piece."""
    parts, channels, height, width = phases.shape
    pixels = phases.permute(0, 2, 3, 1).reshape(2, 2, parts // 4, height, width, channels)
    joined = pixels.permute(2, 3, 0, 4, 1, 5).reshape(parts // 4, 2 * height, 2 * width, channels)
    return joined.permute(0, 3, 1, 2)


def average_pool_3x3(stride: int = 1) -> nn.AvgPool2d:
    """3x3 average pooling; pixels of the padding are not counted (NAS-Bench-201, DARTS)."""
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def max_pool_3x3(stride: int = 1) -> nn.MaxPool2d:
    """3x3 maximum pooling (DARTS)."""
    return nn.MaxPool2d(3, stride=stride, padding=1)


def depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution of each channel alone that keeps height and width at stride 1."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels,
        channels,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=channels,
        bias=False,
    )


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int, named: Callable[[str], str] = str) -> None:
    """Draw the weights of all convolutions and linear layers by (seed, name), where `named` may alter the name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            for kind, parameter in module.named_parameters():
                values = draw_weight(named(f"{name}.{kind}"), tuple(parameter.shape), fan_in, seed)
                parameter.copy_(torch.from_numpy(values))
