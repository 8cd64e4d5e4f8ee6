"""The HyperCuboid of sharpDARTS, searched by Differentiable Hyperparameter Grid Search (Hundt et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spaces.base import Complexity, Counting, SearchSpace
from spaces.hypercuboid.config import HyperCuboidConfig
from spaces.hypercuboid.path import PRIMITIVES, Axis, Grid, Path, Step, StepShape

if TYPE_CHECKING:
    from torch import nn

    from spaces.supernet import Relaxation, Supernet

__all__ = ["Axis", "Grid", "HyperCuboid", "HyperCuboidConfig", "HyperCuboidGrid", "Path", "Step", "StepShape"]

WIDTHS = (1, 2, 4, 8)
PAIRS = 2
"""Of the authors' search: 32, 64, 128 and 256 channels, four steps."""

PRIMITIVE = Axis("primitive", PRIMITIVES)


class HyperCuboid(SearchSpace[Path, HyperCuboidConfig]):
    """Paths through a grid of widths and choices: a width and a choice at every step.

    `widths` are multiples of the smallest; `axes` are any hyperparameters of a step (`StepShape`), each with its
    values; steps of stride 1 and 2 take turns, `pairs` times.

    Raises:
        InputError: see `Grid` and `Axis`.
    """

    name = "hypercuboid"
    description = "paths of 4 steps through 4 widths, each a SharpSepConv or a pool: sharpDARTS's HyperCuboid"
    config_type = HyperCuboidConfig

    def __init__(
        self, widths: Sequence[int] = WIDTHS, axes: Sequence[Axis] = (PRIMITIVE,), pairs: int = PAIRS
    ) -> None:
        self.grid = Grid(tuple(widths), tuple(axes), pairs)

    @property
    def size(self) -> int:
        """Widths to the power of steps + 1, times choices to the power of steps."""
        return int(len(self.grid.widths) ** (self.grid.steps + 1) * len(self.grid.choices) ** self.grid.steps)

    def __iter__(self) -> Iterator[Path]:
        """All paths."""
        return self.grid.paths()

    def parse(self, text: str) -> Path:
        """Path of this text; see `Grid.parse` for the errors."""
        return self.grid.parse(text)

    def sample(self, rng: np.random.Generator) -> Path:
        """Widths and choices, each uniform."""
        grid = self.grid
        widths = [grid.widths[index] for index in rng.integers(len(grid.widths), size=grid.steps + 1)]
        choices = [grid.choices[index] for index in rng.integers(len(grid.choices), size=grid.steps)]
        return Path(widths[0], tuple(map(Step, choices, widths[1:])))

    def neighbours(self, architecture: Path) -> Iterator[Path]:
        """Paths that differ in one width, or in the value of one axis at one step."""
        return self.grid.neighbours(architecture)

    def canonical(self, architecture: Path, counting: Counting) -> Path:
        """The path with the first values where a step does not use an axis."""
        del counting
        steps = (Step(self.grid.canonical(step.choice), step.width) for step in architecture.steps)
        return Path(architecture.width, tuple(steps))

    def network(self, architecture: Path, config: HyperCuboidConfig, seed: int) -> nn.Module:
        """Network of this path, weights drawn by (seed, parameter name)."""
        from spaces.hypercuboid.network import HyperCuboidNetwork

        return HyperCuboidNetwork(architecture.widths(), self._shapes(architecture), config, seed)

    def supernet(self, config: HyperCuboidConfig, relaxation: Relaxation, seed: int) -> Supernet[Path]:
        """All paths at once, mixed by alphas; see `HyperCuboidSupernet`."""
        from spaces.hypercuboid.supernet import HyperCuboidSupernet

        return HyperCuboidSupernet(self.grid, config, relaxation, seed)

    def complexity(self, architecture: Path, config: HyperCuboidConfig) -> Complexity:
        """Parameters and operations of the network as written."""
        return config.complexity(architecture.widths(), self._shapes(architecture))

    def doubling(self) -> Path:
        """What one would choose by hand: the smallest width, doubled by every step that halves the image.

        Every step has the first choice of the grid; where widths run out, the largest stays.
        """
        widths = sorted(self.grid.widths)
        taken = [widths[min(step // 2, len(widths) - 1)] for step in range(self.grid.steps + 1)]
        first = self.grid.choices[0]
        return Path(taken[0], tuple(Step(first, width) for width in taken[1:]))

    def _shapes(self, architecture: Path) -> list[StepShape]:
        return [self.grid.step_shape(step.choice) for step in architecture.steps]


class HyperCuboidGrid(HyperCuboid):
    """A HyperCuboid with kernel, dilation and the width between the halves of a SharpSepConv as further axes."""

    name = "hypercuboid-grid"
    description = "the HyperCuboid with kernel 3 or 5, dilation 1 or 2 and middle 1 or 4 as further axes"

    def __init__(self) -> None:
        further = (Axis("kernel", (3, 5)), Axis("dilation", (1, 2)), Axis("middle", (1, 4)))
        super().__init__(axes=(PRIMITIVE, *further))
