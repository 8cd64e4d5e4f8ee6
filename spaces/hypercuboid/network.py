"""The network of one path: stem, steps, a last SharpSepConv, classifier (sharpDARTS, cnn/model.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from spaces.hypercuboid.config import FINAL_KERNEL, HyperCuboidConfig, stride_of
from spaces.hypercuboid.operations import make_operation, operation_name, tied_name
from spaces.hypercuboid.path import StepShape
from spaces.operations import SharpSepConv, draw_weights


def make_stem(config: HyperCuboidConfig, width: int) -> nn.Sequential:
    """3x3 convolution and batch norm from the images to a width."""
    channels = config.channels * width
    convolution = nn.Conv2d(config.input_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


def make_final(config: HyperCuboidConfig, width: int) -> SharpSepConv:
    """SharpSepConv from a width to the channels that the classifier reads."""
    final = config.final_channels
    return SharpSepConv(config.channels * width, final, final, FINAL_KERNEL)


class HyperCuboidNetwork(nn.Module):
    """The network of a path given by its widths, as multiples of the smallest, and the shapes of its steps.

    Weights are drawn by (seed, parameter name), and parameters named by (step, widths, shape): two paths that
    share a step share its initial weights.
    """

    def __init__(
        self, widths: Sequence[int], steps: Sequence[StepShape], config: HyperCuboidConfig, seed: int
    ) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({str(widths[0]): make_stem(config, widths[0])})
        self.steps = nn.ModuleList(
            nn.ModuleDict(
                {
                    operation_name(inputs, outputs, step): make_operation(
                        step, config.channels * inputs, config.channels * outputs, stride_of(number)
                    )
                }
            )
            for number, (step, (inputs, outputs)) in enumerate(zip(steps, pairwise(widths), strict=True))
        )
        self.final = nn.ModuleDict({str(widths[-1]): make_final(config, widths[-1])})
        self.classifier = nn.Linear(config.final_channels, config.classes)
        draw_weights(self, seed, tied_name)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x = images
        for modules in (self.stem, *self.steps, self.final):
            (module,) = modules.values()
            x = module(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits
