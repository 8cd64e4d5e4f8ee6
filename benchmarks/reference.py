"""The published NASWOT procedure, written plainly: what our scores and speeds are held against.

Forward, backward of ones to mark the ReLUs that the gradient reaches, a second forward with hooks that add
two float products per ReLU, `slogdet` (Mellor et al., ICML 2021, score_networks.py). The network is
NAS-Bench-201's with every edge as a module; the zero edge multiplies by 0, so the gradient passes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.nasbench201.cell import EDGES, Cell
from spaces.nasbench201.config import NASBench201Config
from spaces.weights import draw_weight


class ReLUConvBN(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(self.relu(x)))


class Zero(nn.Module):
    """The authors' zero edge: the gradient passes it, times 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: Zero(),
    "skip_connect": lambda channels: nn.Identity(),
    "nor_conv_1x1": lambda channels: ReLUConvBN(channels, channels, 1),
    "nor_conv_3x3": lambda channels: ReLUConvBN(channels, channels, 3),
    "avg_pool_3x3": lambda channels: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}


class ReferenceCell(nn.Module):
    """All six edges, whatever they carry."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(OPERATIONS[name](channels) for name in cell.operations)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            nodes.append(
                sum(
                    self.operations[edge](nodes[source])
                    for edge, (source, target) in enumerate(EDGES)
                    if target == node
                )
            )
        return nodes[3]


class ReferenceBlock(nn.Module):
    """Stride-2 residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ReLUConvBN(inputs, outputs, 3, 2)
        self.second = ReLUConvBN(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.first(x))


class ReferenceNetwork(nn.Module):
    """The benchmark's network of one cell, initialised by torch until `draw` gives it a seed's weights."""

    def __init__(self, cell: Cell, config: NASBench201Config) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(config.input_channels, config.channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.channels),
        )
        self.cells = nn.ModuleList()
        for stage, width in enumerate(config.widths()):
            if stage:
                self.cells.append(ReferenceBlock(width // 2, width))
            self.cells.extend(ReferenceCell(cell, width) for _ in range(config.cells))
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, 1)
        self.architecture = cell

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return self.classifier(self.last(x).mean((2, 3)))

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Copy the weights that tfnas draws for this seed, by the names it gives them."""
        named = {"stem": self.stem[0]}
        index = block = 0
        for module in self.cells:
            if isinstance(module, ReferenceBlock):
                named[f"reductions.{block}.first.convolution"] = module.first.convolution
                named[f"reductions.{block}.second.convolution"] = module.second.convolution
                named[f"reductions.{block}.shortcut"] = module.shortcut[1]
                block += 1
                continue
            for (source, target), name, operation in zip(
                EDGES, self.architecture.operations, module.operations, strict=True
            ):
                if isinstance(operation, ReLUConvBN):
                    key = f"cells.{index}.edges.{source}_{target}-{name}.convolution"
                    named[key] = operation.convolution
            index += 1
        for name, convolution in named.items():
            shape = tuple(convolution.weight.shape)
            weight = draw_weight(f"{name}.weight", shape, int(np.prod(shape[1:])), seed)
            convolution.weight.copy_(torch.from_numpy(weight))


def live_relus(network: ReferenceNetwork) -> set[nn.Module]:
    """ReLUs on a path from input to output, found by walking the four paths of the cell."""
    operations = network.architecture.operations
    paths = [[3], [0, 4], [1, 5], [0, 2, 5]]
    live = {edge for path in paths if all(operations[edge] != "none" for edge in path) for edge in path}
    if not live:
        return set()
    found: set[nn.Module] = {network.last[1]}
    for module in network.cells:
        if isinstance(module, ReferenceBlock):
            found |= {module.first.relu, module.second.relu}
        else:
            found |= {
                module.operations[edge].relu for edge in live if isinstance(module.operations[edge], ReLUConvBN)
            }
    return found


def published_kernels(
    network: nn.Module, images: Tensor, counted: Sequence[set[nn.Module] | None] = (None,)
) -> list[NDArray[np.float64]]:
    """K over the ReLUs whose backward hook fires and that stand in a set of `counted` (None: all of them).

    One float64 [B, B] per set, all from one run of the procedure.
    """
    batch = len(images)
    kernels = [np.zeros((batch, batch)) for _ in counted]
    reached: set[nn.Module] = set()

    def add_codes(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module in reached:
            codes = (inputs[0].reshape(batch, -1) > 0).float()
            equal = (codes @ codes.T).detach().numpy() + ((1 - codes) @ (1 - codes).T).detach().numpy()
            for kernel, among in zip(kernels, counted, strict=True):
                if among is None or module in among:
                    kernel += equal

    network.train()
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            hooks.append(module.register_forward_hook(add_codes))
            hooks.append(module.register_full_backward_hook(lambda module, *_: reached.add(module)))
    first = images.clone().requires_grad_()
    output = network(first)
    output.backward(torch.ones_like(output))
    network(images.clone())
    for hook in hooks:
        hook.remove()
    return kernels


def published_score(network: nn.Module, images: Tensor) -> float:
    """log |det K| as the authors take it, sign ignored."""
    (kernel,) = published_kernels(network, images)
    return float(np.linalg.slogdet(kernel)[1])
