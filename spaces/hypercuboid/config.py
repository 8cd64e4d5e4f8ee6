"""Size of the network of a path, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaces.base import Complexity, NetworkConfig
from spaces.costs import Cost, classifier, convolution, norm, pool, sharp_separable, total
from spaces.hypercuboid.path import MAX_POOL, StepShape

FINAL_WIDENING = 24
"""The last SharpSepConv makes so many times the smallest width: 768 channels of 32 (cnn/model_search.py)."""

FINAL_KERNEL = 3


def stride_of(step: int) -> int:
    """Every second step halves the image, beginning with the second; steps count from 0."""
    return 1 + step % 2


@dataclass(frozen=True)
class HyperCuboidConfig(NetworkConfig):
    """`channels` is the smallest width; the authors' is 32."""

    channels: int = 32

    @property
    def final_channels(self) -> int:
        """Channels before the classifier."""
        return FINAL_WIDENING * self.channels

    def complexity(self, widths: Sequence[int], steps: Sequence[StepShape]) -> Complexity:
        """Parameters and operations per image of the network as written, by the rule of `spaces.costs`.

        widths: multiples of the smallest after the stem and after every step.
        """
        channels, size = [self.channels * width for width in widths], self.image_size
        parts = [convolution(self.input_channels, channels[0], 9, size), norm(channels[0], size)]
        for number, (step, inputs, outputs) in enumerate(zip(steps, channels, channels[1:], strict=False)):
            stride = stride_of(number)
            size = -(-size // stride)
            parts += _step_costs(step, inputs, outputs, stride, size)
        final = self.final_channels
        parts += sharp_separable(channels[-1], final, final, FINAL_KERNEL, 1, size)
        return total([*parts, classifier(final, size, self.classes)])


def _step_costs(step: StepShape, inputs: int, outputs: int, stride: int, size: int) -> list[Cost]:
    if step.primitive != MAX_POOL:
        return sharp_separable(inputs, step.middle * outputs, outputs, step.kernel, stride, size)
    pooling = pool(inputs, step.kernel, size)
    return (
        [pooling] if inputs == outputs else [pooling, convolution(inputs, outputs, 1, size), norm(outputs, size)]
    )
