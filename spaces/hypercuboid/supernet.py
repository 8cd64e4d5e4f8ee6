"""The HyperCuboid: at every step every width from every width (sharpDARTS, cnn/model_search.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spaces.darts.genotype import KINDS
from spaces.errors import InputError
from spaces.hypercuboid.config import HyperCuboidConfig
from spaces.hypercuboid.extraction import EXTRACTIONS, path_graph
from spaces.hypercuboid.mixed import MixedStep
from spaces.hypercuboid.network import make_final, make_stem
from spaces.hypercuboid.operations import tied_name
from spaces.hypercuboid.path import SEP_CONV, Grid, Path, Step
from spaces.operations import draw_weights
from spaces.supernet import CellKind, Mixture, Relaxation, Supernet, drop_running_statistics, mixing_weights


class HyperCuboidSupernet(Supernet[Path]):
    """All paths of a grid at once; weights drawn by (seed, parameter name of the network of a path).

    Its alphas are the array of the paper in two parts, one for each stride: `architecture["normal"]` and
    `["reduce"]` are [steps / 2, widths in x widths out, choices], and `hypercuboid` is the whole. One softmax goes
    over all operations of a step. From the last step every width has its own SharpSepConv, and those are added.

    Raises:
        InputError: a relaxation with partial channels or normalised edges, which have no meaning here.
    """

    def __init__(self, grid: Grid, config: HyperCuboidConfig, relaxation: Relaxation, seed: int) -> None:
        if relaxation.partial != 1 or relaxation.edge_normalisation:
            raise InputError("a HyperCuboid has no partial channels and no normalised edges: search with dhgs")
        shapes = [grid.step_shape(choice) for choice in grid.choices]
        names = [",".join(map(str, choice)) for choice in grid.choices]
        learnable = [name for name, shape in zip(names, shapes, strict=True) if shape.primitive == SEP_CONV]
        kinds = [CellKind(kind, (len(grid.widths) ** 2,), grid.pairs) for kind in KINDS]
        super().__init__(kinds, names, learnable, replace(relaxation, shared=False), seed)
        self.grid = grid
        self.stem = nn.ModuleDict({str(width): make_stem(config, width) for width in grid.widths})
        self.steps = nn.ModuleList(
            MixedStep(grid.widths, shapes, config.channels, stride) for _ in range(grid.pairs) for stride in (1, 2)
        )
        self.final = nn.ModuleDict({str(width): make_final(config, width) for width in grid.widths})
        self.classifier = nn.Linear(config.final_channels, config.classes)
        drop_running_statistics(self)
        draw_weights(self, seed, tied_name)

    @property
    def hypercuboid(self) -> Tensor:
        """Alphas [2 strides, steps / 2, widths in, widths out, axes...]."""
        return torch.stack([self.architecture[kind] for kind in KINDS]).view(self.grid.shape)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        maps = [stem(images) for stem in self.stem.values()]
        by_stride = zip(*(self.mixtures(kind) for kind in KINDS), strict=True)
        mixtures = [mixture for pair in by_stride for mixture in pair]
        for step, mixture in zip(self.steps, mixtures, strict=True):
            maps = step(maps, mixture.operations)
        last = reduce(torch.add, (final(x) for final, x in zip(self.final.values(), maps, strict=True)))
        logits: Tensor = self.classifier(last.mean((2, 3)))
        return logits

    def mixtures(self, kind: str) -> list[Mixture]:
        """Weights [widths in, widths out, choices] of each step of a stride."""
        widths = len(self.grid.widths)
        weights = mixing_weights(self.architecture[kind].flatten(1), self.relaxation.weighting)
        return [Mixture(step.view(widths, widths, -1), None) for step in weights.unbind()]

    @torch.no_grad()
    def strengths(self, kind: str) -> Tensor:
        """[steps / 2, widths in x widths out, choices]: softmax over the operations of each step."""
        alphas = self.architecture[kind]
        return torch.softmax(alphas.flatten(1), -1).view_as(alphas)

    def decode(self, strengths: Mapping[str, Tensor]) -> Path:
        """The longest path, each step by its strongest choice."""
        return self._extracted(strengths, next(iter(EXTRACTIONS)))

    def paths(self) -> dict[str, Path]:
        """What each rule of extraction makes of the alphas."""
        strengths = {kind: self.strengths(kind) for kind in KINDS}
        return {rule: self._extracted(strengths, rule) for rule in EXTRACTIONS}

    def skip_edges(self, architecture: Path) -> list[int]:
        """None: a HyperCuboid has no skip-connections."""
        del architecture
        return []

    def _extracted(self, strengths: Mapping[str, Tensor], rule: str) -> Path:
        grid, widths = self.grid, len(self.grid.widths)
        normal, reducing = (strengths[kind].view(grid.pairs, widths, widths, -1).cpu() for kind in KINDS)
        # A step of stride 1 and one of stride 2 take turns.
        steps: npt.NDArray[np.float32] = torch.stack([normal, reducing], 1).flatten(0, 1).numpy()
        nodes = EXTRACTIONS[rule](path_graph(steps.max(-1)))
        places = [width for _, width in nodes]
        taken = [
            Step(grid.choices[int(steps[step, source, target].argmax())], grid.widths[target])
            for step, (source, target) in enumerate(pairwise(places))
        ]
        return Path(grid.widths[places[0]], tuple(taken))
