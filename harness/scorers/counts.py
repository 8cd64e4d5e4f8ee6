"""Counts as scores: parameters, FLOPs, trainable layers and the size of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from harness.scorers.base import Family, Needs, Reads, Score, Scorer
from spaces.base import Complexity, Counting

if TYPE_CHECKING:
    from torch import nn

    from harness.backends import Backend
    from harness.datasets import Batch


class Counts(Family[Complexity]):
    """Complexity of the network as written, by its space's rule; counted on the module where there is none."""

    cost = "none"
    reads: ClassVar[Reads] = "complexity"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def look(self, candidate: Any, batch: Batch, backend: Backend) -> Complexity:
        """Trainable parameters and operations per image; torch's own count (multiply and add are two) halved."""
        if isinstance(candidate, Complexity):
            return candidate
        from torch.utils.flop_counter import FlopCounterMode

        from harness.scorers.passes import as_in_training

        images = batch.images[:2]
        with as_in_training(candidate, images, backend.seed), FlopCounterMode(display=False) as counter:
            candidate(images)
        params = sum(parameter.numel() for parameter in candidate.parameters() if parameter.requires_grad)
        return Complexity(params, counter.get_total_flops() // (2 * len(images)))


class Params(Counts):
    """Trainable parameters, auxiliary heads included."""

    name = "params"
    description = "trainable parameters of the network as written"
    source = "baseline of Ning et al. 2021 and White et al. 2022"

    def value(self, seen: Complexity) -> Score:
        """The count."""
        return Score(float(seen.params))


class FLOPs(Counts):
    """Operations per image."""

    name = "flops"
    description = "operations per image of the network as written"
    source = "baseline of Ning et al. 2021 and White et al. 2022"

    def value(self, seen: Complexity) -> Score:
        """The count."""
        return Score(float(seen.flops))


class Depth(Scorer):
    """Convolutions and linear layers that the output depends on."""

    name = "depth"
    description = "trainable layers (convolutions, linear) that the output depends on"
    source = "baseline of Tybl and Neumann, VKDNW, 2025 (number of trainable layers)"
    cost = "one backward pass of two images"
    counting: ClassVar[Counting | None] = "live"

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The count, by which weights a gradient reaches."""
        import torch

        from harness.scorers.passes import as_in_training, logits_of, weights_of

        weights, images = weights_of(candidate), batch.images[:2]
        with as_in_training(candidate, images, backend.seed):
            found = torch.autograd.grad(logits_of(candidate, images).sum(), weights, allow_unused=True)
        return Score(float(sum(gradient is not None for gradient in found)))


class L2Norm(Scorer):
    """Sum over layers of the Euclidean norm of the initial weights, layers on dead branches too."""

    name = "l2_norm"
    description = "sum over layers of the norm of the initial weights"
    source = "Abdelfattah et al., ICLR 2021: foresight/pruners/measures/l2_norm.py"
    cost = "none"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def score(self, candidate: nn.Module | Any, batch: Batch, backend: Backend) -> Score:
        """Sum of the norms."""
        from harness.scorers.passes import weights_of

        del batch, backend
        return Score(sum(float(weight.detach().double().norm()) for weight in weights_of(candidate)))
