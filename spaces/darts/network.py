"""The DARTS network around a genotype's cells, with the stem of CIFAR or of ImageNet (Liu et al., ICLR 2019).

Parameters are named by (cell, edge, operation): two genotypes that share an edge of a cell share its initial
weights. Settings follow the authors' cnn/model.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from spaces.darts.config import AUXILIARY_WIDTHS, CellShape, DARTSConfig
from spaces.darts.genotype import (
    AVERAGE_POOL,
    DILATED,
    INPUTS,
    MAX_POOL,
    NODES,
    NONE,
    SEPARABLE,
    SKIP,
    Cell,
    Genotype,
    check_paths,
    edges_into,
)
from spaces.operations import (
    DilatedConv,
    FactorisedReduction,
    ReLUConvBN,
    SeparableConv,
    SqueezeExcitation,
    average_pool_3x3,
    draw_weights,
    max_pool_3x3,
)


class OperationMaker(Protocol):
    """What makes the operations of a space."""

    def __call__(self, operation: str, channels: int, stride: int, *, affine: bool = True) -> nn.Module:
        """Module of one operation other than `none`."""


def edge_name(source: int, node: int) -> str:
    """Name of an edge in parameter names."""
    return f"{source}_{node}"


def make_operation(operation: str, channels: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Module of one operation other than `none`."""
    if operation in SEPARABLE:
        return SeparableConv(channels, SEPARABLE[operation], stride, affine=affine)
    if operation in DILATED:
        return DilatedConv(channels, DILATED[operation], stride, affine=affine)
    if operation == SKIP:
        return nn.Identity() if stride == 1 else FactorisedReduction(channels, channels, affine=affine)
    return {MAX_POOL: max_pool_3x3, AVERAGE_POOL: average_pool_3x3}[operation](stride)


def make_preprocessing(shape: CellShape, *, affine: bool = True) -> nn.ModuleList:
    """What brings both inputs of a cell to its width, and the earlier one to the size of the later."""
    earlier, later = shape.inputs
    first = (
        FactorisedReduction(earlier, shape.channels, affine=affine)
        if shape.reduced
        else ReLUConvBN(earlier, shape.channels, 1, affine=affine)
    )
    return nn.ModuleList([first, ReLUConvBN(later, shape.channels, 1, affine=affine)])


def make_stem(config: DARTSConfig) -> nn.ModuleList:
    """One stage for CIFAR, whose output is both inputs of the first cell; two for ImageNet, each an input."""
    width = config.stem_channels()
    if config.stem == "cifar":
        return nn.ModuleList([nn.Sequential(_convolution(config.input_channels, width, 1), nn.BatchNorm2d(width))])
    first = nn.Sequential(
        _convolution(config.input_channels, width // 2, 2),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        _convolution(width // 2, width, 2),
        nn.BatchNorm2d(width),
    )
    return nn.ModuleList([first, nn.Sequential(nn.ReLU(), _convolution(width, width, 2), nn.BatchNorm2d(width))])


def run_stem(stem: nn.ModuleList, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both inputs of the first cell from images [B, C, H, W]."""
    earlier = stem[0](images)
    return earlier, stem[1](earlier) if len(stem) == 2 else earlier


class DropPath(nn.Module):
    """Zero for whole images with `probability`, in training, the rest scaled up (cnn/utils.py, drop_path)."""

    probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        if not (self.training and self.probability):
            return x
        kept = 1 - self.probability
        return x * (torch.empty(len(x), 1, 1, 1, device=x.device).bernoulli_(kept) / kept)


class CellNetwork(nn.Module):
    """One cell as written: two edges into each node, all nodes concatenated; a `none` edge adds nothing."""

    def __init__(self, cell: Cell, shape: CellShape, make: OperationMaker = make_operation) -> None:
        super().__init__()
        self.preprocessing = make_preprocessing(shape)
        self.edges = nn.ModuleDict()
        self.drop_path = DropPath()
        self.nodes: list[list[tuple[str, int]]] = []
        self.output_channels, self.size = shape.channels, shape.size
        for node, edges in edges_into(cell):
            twins = Counter[str]()
            incoming = []
            for operation, source in edges:
                if operation == NONE:
                    continue
                name = f"{edge_name(source, node)}-{operation}"
                twins[name] += 1
                if twins[name] > 1:
                    name = f"{name}-{twins[name]}"
                stride = 2 if shape.reduction and source < INPUTS else 1
                self.edges[name] = make(operation, shape.channels, stride)
                incoming.append((name, source))
            self.nodes.append(incoming)

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Outputs of the two cells before to [B, 4 C, H, W]."""
        states = [module(x) for module, x in zip(self.preprocessing, (earlier, later), strict=True)]
        for incoming in self.nodes:
            terms = [self._edge(name, states[source]) for name, source in incoming]
            states.append(sum(terms[1:], terms[0]) if terms else self._zeros(states[0]))
        return torch.cat(states[INPUTS:], 1)

    def _edge(self, name: str, x: Tensor) -> Tensor:
        operation = self.edges[name]
        output = operation(x)
        return cast(Tensor, output if isinstance(operation, nn.Identity) else self.drop_path(output))

    def _zeros(self, like: Tensor) -> Tensor:
        return like.new_zeros(len(like), self.output_channels, self.size, self.size)


class AuxiliaryHead(nn.Module):
    """The second classifier of the authors' training, on a feature map that pooling brings to 2x2.

    The ImageNet head has no batch norm after its second convolution: the authors left it out for consistency
    with their paper.
    """

    def __init__(self, channels: int, config: DARTSConfig) -> None:
        super().__init__()
        narrow, wide = AUXILIARY_WIDTHS
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=config.auxiliary_stride, count_include_pad=False),
            nn.Conv2d(channels, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 2, bias=False),
            nn.BatchNorm2d(wide) if config.stem == "cifar" else nn.Identity(),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(wide, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


class DARTSNetwork(nn.Module):
    """The network of one genotype, its operations by `make`; weights drawn by (seed, parameter name).

    Raises:
        InputError: a cell has no path from its inputs to its output.
    """

    def __init__(
        self, genotype: Genotype, config: DARTSConfig, seed: int, make: OperationMaker = make_operation
    ) -> None:
        super().__init__()
        check_paths(genotype)
        shapes = config.shapes()
        self.stem = make_stem(config)
        self.cells = nn.ModuleList(CellNetwork(genotype.cells()[shape.kind], shape, make) for shape in shapes)
        self.gates = nn.ModuleList(
            SqueezeExcitation(NODES * shape.channels) if config.squeeze_excitation else nn.Identity()
            for shape in shapes
        )
        self.classifier = nn.Linear(NODES * shapes[-1].channels, config.classes)
        self.auxiliary_cell = config.auxiliary_cell() if config.auxiliary else None
        if self.auxiliary_cell is not None:
            self.auxiliary = AuxiliaryHead(NODES * shapes[self.auxiliary_cell].channels, config)
        draw_weights(self, seed)

    @property
    def drop_path(self) -> float:
        """Probability of drop path on every edge but identities; 0 until a trainer sets it."""
        return self._drop_paths()[0].probability

    @drop_path.setter
    def drop_path(self, probability: float) -> None:
        for module in self._drop_paths():
            module.probability = probability

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[B, C, H, W] to logits [B, classes]; in training with an auxiliary head, (logits, its logits)."""
        earlier, later = run_stem(self.stem, images)
        auxiliary: Tensor | None = None
        for index, (cell, gate) in enumerate(zip(self.cells, self.gates, strict=True)):
            earlier, later = later, gate(cell(earlier, later))
            if index == self.auxiliary_cell and self.training:
                auxiliary = self.auxiliary(later)
        logits: Tensor = self.classifier(later.mean((2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)

    def _drop_paths(self) -> list[DropPath]:
        return [module for module in self.modules() if isinstance(module, DropPath)]


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
