"""What the parts of a network cost, by one rule for all spaces that are built of them.

Parameters are weights of convolutions and two for each channel of a batch norm. Of operations per image, a
multiply-accumulate of a convolution counts 1, batch norm 2 and ReLU 1 an element, pooling its window's area an
output element (the rule of NAS-Bench-201's counter).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from spaces.base import Complexity


class Cost(NamedTuple):
    """Parameters, and operations per image."""

    params: int
    operations: int


def convolution(inputs: int, outputs: int, window: int, size: int) -> Cost:
    """`window` weights for each pair of channels, used at each pixel of an output of height `size`."""
    weights = inputs * outputs * window
    return Cost(weights, weights * size**2)


def norm(channels: int, size: int) -> Cost:
    """Batch norm with scale and shift."""
    return Cost(2 * channels, 2 * channels * size**2)


def relu(channels: int, size: int) -> Cost:
    """ReLU of a map of height `size`."""
    return Cost(0, channels * size**2)


def pool(channels: int, kernel: int, size: int) -> Cost:
    """kernel x kernel pooling to an output of height `size`."""
    return Cost(0, kernel**2 * channels * size**2)


def sharp_separable(inputs: int, middle: int, outputs: int, kernel: int, stride: int, size: int) -> list[Cost]:
    """The parts of a `SharpSepConv` to an output of height `size`."""
    return [
        relu(inputs, stride * size),
        convolution(1, inputs, kernel**2, size),
        convolution(inputs, middle, 1, size),
        norm(middle, size),
        relu(middle, size),
        convolution(1, middle, kernel**2, size),
        convolution(middle, outputs, 1, size),
        norm(outputs, size),
    ]


def squeezed(channels: int) -> int:
    """Channels between the two convolutions of a squeeze-and-excitation: a sixteenth (Hu et al., CVPR 2018)."""
    return max(1, channels // 16)


def squeeze_excitation(channels: int, size: int) -> Cost:
    """Means of a map of height `size`, two 1x1 convolutions with bias on them, and the product with the map."""
    middle = squeezed(channels)
    weights = 2 * channels * middle
    return Cost(weights + channels + middle, weights + middle + 2 * channels * size**2)


def classifier(width: int, size: int, classes: int) -> Cost:
    """Global pooling of a map of height `size`, (size + 1)^2 operations a channel, and a linear layer."""
    return Cost((width + 1) * classes, width * (classes + (size + 1) ** 2))


def total(parts: Iterable[Cost]) -> Complexity:
    """The sum of all parts."""
    costs = list(parts)
    return Complexity(sum(cost.params for cost in costs), sum(cost.operations for cost in costs))
