"""AZ-NAS's scores of feature maps: expressivity, progressivity, trainability (Lee and Ham, CVPR 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Family, Needs, Score
from harness.scorers.passes import as_in_training, normal, redrawn
from spaces.base import Counting
from spaces.errors import InputError
from spaces.weights import keyed_generator

ENTROPY_FLOOR = 1e-8
SINGULAR_FLOOR = 1e-6
"""The authors' constants."""

CONSTANT = "a block's features are constant, so they have no principal components"
UNCHANGED = "a block passes gradients on unchanged"


@dataclass(frozen=True)
class BlockMeasures:
    """`entropies` of the features before the first block and after each; `gains` of each block but the first's
    features: largest singular value of its Jacobian, infinite where gradients pass unchanged."""

    entropies: tuple[float, ...]
    gains: tuple[float, ...]


class Blocks(Family[BlockMeasures]):
    """One forward pass and one backward pass through each block, weights normal by fan-in (Kaiming).

    The authors' notebook gives noise images, here in the number and shape of the batch. Blocks are the modules
    with parts of their own that the network holds, itself or in plain lists and sequences; the features are
    what enters the first and what leaves each. The complexity that completes AZ-NAS is the scorer flops.
    """

    source = "Lee and Ham, CVPR 2024: NB201/ZeroShotProxy/compute_az_nas_score.py"
    cost = "one forward and backward pass"
    needs: ClassVar[frozenset[Needs]] = frozenset({"gradients", "noise"})
    counting: ClassVar[Counting | None] = "live"
    version: ClassVar[int] = 2

    def look(self, candidate: nn.Module, batch: Batch, backend: Backend) -> BlockMeasures:
        """Entropies and gains; raises `InputError` where the network has no blocks of feature maps."""
        images = normal("aznas/images", batch.images.shape, backend.seed).to(batch.images.device)
        with redrawn(candidate, backend.seed, _kaiming), as_in_training(candidate, images, backend.seed):
            maps = _block_features(candidate, images)
            gains = [
                _gain(before, after, f"aznas/{index}", backend.seed)
                for index, (before, after) in enumerate(pairwise(maps))
            ]
        return BlockMeasures(tuple(_entropy(features.detach()) for features in maps), tuple(gains))


class Expressivity(Blocks):
    """Sum over features of the entropy of their principal components."""

    name = "az_expressivity"
    description = "sum over blocks of the entropy of the features' principal components"

    def value(self, seen: BlockMeasures) -> Score:
        """The sum, or a reason where some features are constant."""
        return _finite(sum(seen.entropies), CONSTANT)


class Progressivity(Blocks):
    """Smallest increase of the entropy from one block to the next."""

    name = "az_progressivity"
    description = "smallest increase of expressivity between blocks"

    def value(self, seen: BlockMeasures) -> Score:
        """The increase, or a reason where some features are constant."""
        steps = torch.tensor(seen.entropies, dtype=torch.float64).diff()
        return _finite(float(steps.min()), CONSTANT)


class Trainability(Blocks):
    """Mean over blocks of 2 - s - 1/s, s the largest singular value of the block's Jacobian."""

    name = "az_trainability"
    description = "how close the blocks' Jacobians keep the size of gradients"

    def value(self, seen: BlockMeasures) -> Score:
        """The mean, or a reason where a block passes gradients on unchanged, which the authors rank last too."""
        terms = [2 - gain - 1 / (gain + SINGULAR_FLOOR) for gain in seen.gains]
        return _finite(sum(terms) / len(terms), UNCHANGED)


def _finite(value: float, otherwise: str) -> Score:
    return Score(value) if math.isfinite(value) else Score(None, otherwise)


def _kaiming(name: str, weight: Tensor, seed: int) -> Tensor:
    scale: float = (2 / weight[0].numel()) ** 0.5
    return normal(f"aznas/{name}", weight.shape, seed) * scale


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Modules with parts, inside plain lists and sequences."""
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _blocks(child)
        elif any(True for _ in child.children()):
            yield child


def _block_features(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What enters the first block and leaves each [B, C, H, W], in the order in which they run."""
    maps: list[Tensor] = []

    def enter(block: nn.Module, inputs: tuple[Any, ...]) -> Any:
        del block
        if maps:
            return None
        maps.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])

    def leave(block: nn.Module, inputs: Any, output: Any) -> Any:
        del inputs
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise InputError(f"block {type(block).__name__} returns no feature map")
        maps.append(output)
        # A copy goes on, since what follows may change it in place.
        return output.clone()

    hooks = [
        hook
        for block in _blocks(network)
        for hook in (block.register_forward_pre_hook(enter), block.register_forward_hook(leave))
    ]
    try:
        network(images.clone().requires_grad_() * 1)
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        raise InputError("the network has no blocks, between which this score reads its features")
    return maps


def _entropy(features: Tensor) -> float:
    """Entropy of the normalised eigenvalues of the channels' covariance, features [B, C, H, W]."""
    pixels = features.movedim(1, 3).flatten(0, 2).double()
    pixels = pixels - pixels.mean(0)
    shares = torch.linalg.eigvalsh(pixels.T @ pixels / len(pixels))
    shares = shares / shares.sum()
    return float(-(shares * (shares + ENTROPY_FLOOR).log()).sum())


def _gain(before: Tensor, after: Tensor, name: str, seed: int) -> float:
    """Largest singular value of the Jacobian between two maps, estimated with one random vector of signs."""
    words = keyed_generator(seed, name).bit_generator.random_raw(after.numel())
    signs = torch.from_numpy((words >> 63).astype("float32") * 2 - 1).reshape(after.shape).to(after.device)
    if not (after.requires_grad and before.requires_grad):
        return 0.0
    (found,) = torch.autograd.grad(
        after, [before], signs, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    if found.shape == signs.shape and torch.equal(found, signs):
        return float("inf")
    if found.shape[2:] != signs.shape[2:]:
        found = F.pixel_unshuffle(found, found.shape[2] // signs.shape[2])
    rows_in, rows_out = (gradient.movedim(1, 3).flatten(0, 2).double() for gradient in (found, signs))
    return float(torch.linalg.svdvals(rows_in.T @ rows_out / len(rows_out))[0])
