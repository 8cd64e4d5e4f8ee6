"""Width, depth and surroundings of a DARTS network, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from spaces.base import Complexity, NetworkConfig
from spaces.costs import (
    Cost,
    classifier,
    convolution,
    norm,
    pool,
    relu,
    sharp_separable,
    squeeze_excitation,
    total,
)
from spaces.darts.genotype import (
    AVERAGE_POOL,
    DILATED,
    INPUTS,
    KINDS,
    MAX_POOL,
    NODES,
    SEPARABLE,
    SKIP,
    Genotype,
)
from spaces.errors import InputError

Stem = Literal["cifar", "imagenet"]

STEM_WIDENING = 3
"""The CIFAR stem has so many times the channels of the first cell (cnn/model.py)."""

AUXILIARY_WIDTHS = (128, 768)
"""Channels of the two convolutions of an auxiliary head."""

NDS_WIDTHS = (16, 24, 32)
NDS_DEPTHS = (4, 8, 12, 16, 20)
"""Channels and cells that NDS samples for its cell-based spaces (Radosavovic et al., ICCV 2019).

As microsoft/nni has them, nni/nas/hub/pytorch/nasnet.py.
"""


class CellShape(NamedTuple):
    """One cell in its network: what it reads and makes.

    `inputs` are the channels of the two cells before it and `reduced` says whether the earlier of them is twice
    as high and wide as the later; `channels` are those of its nodes, `size` the height of its output.
    """

    reduction: bool
    reduced: bool
    inputs: tuple[int, int]
    channels: int
    size: int

    @property
    def kind(self) -> str:
        """normal or reduce."""
        return KINDS[self.reduction]


@dataclass(frozen=True)
class DARTSConfig(NetworkConfig):
    """`channels` of the first cell (C) and `cells` in all; the defaults are those of the authors' search.

    `stem` keeps the resolution (cifar) or divides it by 8 (imagenet). `auxiliary` adds the second classifier
    that the authors train with, after the second reduction. `squeeze_excitation` gates the output of every cell:
    DARTS+ names the trick for ImageNet; where it stands in a network is our choice.
    """

    channels: int = 16
    cells: int = 8
    stem: Stem = "cifar"
    auxiliary: bool = False
    squeeze_excitation: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem not in get_args(Stem):
            raise InputError(f"unknown stem {self.stem!r}; allowed: {', '.join(get_args(Stem))}")
        multiple = 4 if self.stem == "cifar" else 32
        if self.image_size % multiple:
            raise InputError(
                f"image_size must be a multiple of {multiple} for darts with the {self.stem} stem, "
                f"not {self.image_size}"
            )
        if self.channels % 2:
            raise InputError(f"channels must be even for darts, not {self.channels}")
        pooled = (self.shapes()[-1].size - 5) // self.auxiliary_stride + 1
        if self.auxiliary and pooled != 2:
            sizes = "32 to 40" if self.stem == "cifar" else "224 or 256"
            raise InputError(f"image_size must be {sizes} for the auxiliary head, not {self.image_size}")

    @property
    def auxiliary_stride(self) -> int:
        """Stride of the auxiliary head's 5x5 pooling, which leaves 2x2 pixels."""
        return 3 if self.stem == "cifar" else 2

    def stem_channels(self) -> int:
        """Channels that the first cell reads."""
        return STEM_WIDENING * self.channels if self.stem == "cifar" else self.channels

    def shapes(self) -> list[CellShape]:
        """All cells in order; those at one and two thirds of the depth halve the image and double the width."""
        reductions = (self.cells // 3, 2 * self.cells // 3)
        inputs, channels = (self.stem_channels(), self.stem_channels()), self.channels
        size, reduced = self.image_size, False
        if self.stem == "imagenet":
            size, reduced = self.image_size // 8, True
        shapes = []
        for index in range(self.cells):
            reduction = index in reductions
            if reduction:
                channels, size = 2 * channels, size // 2
            shapes.append(CellShape(reduction, reduced, inputs, channels, size))
            inputs, reduced = (inputs[1], NODES * channels), reduction
        return shapes

    def auxiliary_cell(self) -> int:
        """Index of the cell that the auxiliary head reads."""
        return 2 * self.cells // 3

    def complexity(self, genotype: Genotype) -> Complexity:
        """Parameters and operations per image of the network as written, auxiliary head left out.

        Parameters are the authors' count (cnn/utils.py): weights of convolutions, two for each channel of a
        batch norm, the classifier. Operations follow the rule of nasbench201 (`spaces.costs`); additions are free.
        """
        shapes = self.shapes()
        parts = self._stem_costs()
        for shape in shapes:
            parts += _preprocessing_costs(shape)
            for operation, source in genotype.cells()[shape.kind]:
                parts += self.edge_costs(operation, shape, 2 if shape.reduction and source < INPUTS else 1)
            if self.squeeze_excitation:
                parts.append(squeeze_excitation(NODES * shape.channels, shape.size))
        return total([*parts, classifier(NODES * shapes[-1].channels, shapes[-1].size, self.classes)])

    def edge_costs(self, operation: str, shape: CellShape, stride: int) -> list[Cost]:
        """Parts of one operation of a cell."""
        channels, size = shape.channels, shape.size
        if operation in SEPARABLE:
            return sharp_separable(channels, channels, channels, SEPARABLE[operation], stride, size)
        if operation in DILATED:
            return [
                relu(channels, stride * size),
                convolution(1, channels, DILATED[operation] ** 2, size),
                convolution(channels, channels, 1, size),
                norm(channels, size),
            ]
        if operation == SKIP and stride == 2:
            return [relu(channels, 2 * size), convolution(channels, channels, 1, size), norm(channels, size)]
        return [pool(channels, 3, size)] if operation in (MAX_POOL, AVERAGE_POOL) else []

    def _stem_costs(self) -> list[Cost]:
        width, size = self.stem_channels(), self.image_size
        if self.stem == "cifar":
            return [convolution(self.input_channels, width, 9, size), norm(width, size)]
        return [
            convolution(self.input_channels, width // 2, 9, size // 2),
            norm(width // 2, size // 2),
            relu(width // 2, size // 2),
            convolution(width // 2, width, 9, size // 4),
            norm(width, size // 4),
            relu(width, size // 4),
            convolution(width, width, 9, size // 8),
            norm(width, size // 8),
        ]


def sample_size(config: DARTSConfig, rng: np.random.Generator) -> DARTSConfig:
    """The config with width and depth drawn as NDS draws them, each uniform."""
    return replace(config, channels=int(rng.choice(NDS_WIDTHS)), cells=int(rng.choice(NDS_DEPTHS)))


def _preprocessing_costs(shape: CellShape) -> list[Cost]:
    """Two 1x1 convolutions; a factorised reduction makes half of its channels from each of two."""
    size = shape.size * (2 if shape.reduction else 1)
    read = (2 * size if shape.reduced else size, size)
    costs = []
    for width, read_size in zip(shape.inputs, read, strict=True):
        costs += [relu(width, read_size), convolution(width, shape.channels, 1, size)]
        costs.append(norm(shape.channels, size))
    return costs
