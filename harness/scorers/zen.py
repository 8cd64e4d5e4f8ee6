"""Zen-score: how much a Gaussian network's features move with its input (Lin et al., ICCV 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, normal, redrawn
from spaces.errors import InputError

PERTURBATION = 0.01
"""Share of a second noise image that is added to the first."""

aten = torch.ops.aten
POOLS = (aten.mean, aten._adaptive_avg_pool2d, aten.avg_pool2d, aten.amax, aten.adaptive_max_pool2d)


class Zen(Scorer):
    """log E|f(x) - f(x + 0.01 y)| before global pooling, plus log sqrt(mean running variance) of each norm.

    Weights are standard normal, x and y noise images, in the number and shape of the batch; one repeat, as
    NASLib has it. All batch norms count, those on dead branches too, as the authors' program counts them.
    """

    name = "zen"
    description = "log distance of the features of two close noise images, standard normal weights"
    source = "Lin et al., ICCV 2021: ZeroShotProxy/compute_zen_score.py; NASLib: .../measures/zen.py"
    cost = "two forward passes"
    needs: ClassVar[frozenset[Needs]] = frozenset({"noise"})

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The score, or a reason where the features do not move."""
        norms = [module for module in candidate.modules() if isinstance(module, _BatchNorm)]
        images, direction = (
            normal(f"zen/{name}", batch.images.shape, backend.seed).to(batch.images.device)
            for name in ("images", "direction")
        )
        with (
            redrawn(candidate, backend.seed, _standard),
            as_in_training(candidate, images, backend.seed),
            torch.no_grad(),
        ):
            for norm in norms:
                norm.reset_running_stats()
            moved = features(candidate, images + PERTURBATION * direction) - features(candidate, images)
            scales = [norm.running_var.mean().sqrt().log() for norm in norms if norm.running_var is not None]
            distance = moved.abs().flatten(1).sum(1, dtype=torch.float64).mean()
        if distance == 0:
            return Score(None, "the features do not depend on the images")
        return Score(float(distance.log()) + float(sum(scales)))


def _standard(name: str, weight: Tensor, seed: int) -> Tensor:
    return normal(f"zen/{name}", weight.shape, seed)


def features(network: nn.Module, images: Tensor) -> Tensor:
    """Feature map [B, C, H, W] that enters the network's last pooling over all pixels.

    Raises `InputError` where nothing is pooled.
    """
    recorder = _PoolingRecorder()
    with recorder:
        network(images)
    if recorder.pooled is None:
        raise InputError("the network has no global pooling, before which this score reads its features")
    return recorder.pooled


class _PoolingRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the last map of more than one pixel of which one value a channel is left."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pooled: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in POOLS and args[0].dim() == 4:
            batch, channels, height, width = args[0].shape
            left = (output[0] if isinstance(output, tuple) else output).numel()
            if height * width > 1 and left == batch * channels:
                self.pooled = args[0]
        return output
