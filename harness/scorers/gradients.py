"""Scores of one backward pass: snip, grad_norm, plain and fisher (Abdelfattah et al., ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Family, Needs, Score
from harness.scorers.passes import (
    WeightedLayer,
    as_in_training,
    cross_entropy,
    gradients_of,
    total,
    weighted_layers,
)
from spaces.base import Counting


@dataclass(frozen=True, eq=False)
class LayerGradient:
    """A layer after the backward pass: weight, its gradient of the same shape, and saliency [channels].

    `saliency` of an output channel is half the mean over images of (sum over pixels of activation times its
    gradient) squared.
    """

    weight: Tensor
    gradient: Tensor
    saliency: Tensor


class OneBackward(Family[list[LayerGradient]]):
    """Cross entropy on the batch in training mode, one backward pass; the score is a sum over the layers."""

    source = "Abdelfattah et al., ICLR 2021: foresight/pruners/measures"
    cost = "one forward and backward pass"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "labels", "gradients"})
    counting: ClassVar[Counting | None] = "live"

    def look(self, candidate: nn.Module, batch: Batch, backend: Backend) -> list[LayerGradient]:
        """Every weighted layer with its gradient."""
        layers = weighted_layers(candidate)
        recorders = [_SaliencyRecorder(layer) for layer in layers.values()]
        weights = [layer.weight for layer in layers.values()]
        try:
            with as_in_training(candidate, batch.images, backend.seed):
                found = gradients_of(cross_entropy(candidate, batch.images, batch.labels), weights)
        finally:
            for recorder in recorders:
                recorder.remove()
        return [
            LayerGradient(weight.detach(), gradient, recorder.saliency)
            for weight, gradient, recorder in zip(weights, found, recorders, strict=True)
        ]

    def value(self, seen: list[LayerGradient]) -> Score:
        """Sum over the layers."""
        return Score(sum(map(self.of_layer, seen)))

    def of_layer(self, layer: LayerGradient) -> float:
        """What one layer adds to the score."""
        raise NotImplementedError


class _SaliencyRecorder:
    """Adds up the saliency of one layer's output channels while the backward pass runs."""

    def __init__(self, layer: WeightedLayer) -> None:
        self.saliency = torch.zeros(len(layer.weight), device=layer.weight.device)
        self._channel_axis = -1 if isinstance(layer, nn.Linear) else 1
        self.remove = layer.register_forward_hook(self._watch).remove

    def _watch(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        del layer, inputs
        # Its hook must not hold the output itself: autograd would keep both for ever.
        activation = output.detach()

        def add(gradient: Tensor) -> None:
            product = (activation * gradient).movedim(self._channel_axis, 1)
            per_image = product.reshape(len(product), len(self.saliency), -1).sum(2)
            self.saliency += per_image.square().mean(0) / 2

        if output.requires_grad:
            output.register_hook(add)  # type: ignore[no-untyped-call]
        # A copy goes on, since what follows may change it in place.
        return output.clone()


class SNIP(OneBackward):
    """Connection sensitivity |weight x gradient| (Lee et al., ICLR 2019)."""

    name = "snip"
    description = "sum of |weight x gradient|"

    def of_layer(self, layer: LayerGradient) -> float:
        """Sum over the weights."""
        return total((layer.weight * layer.gradient).abs())


class Plain(OneBackward):
    """weight x gradient without absolute value."""

    name = "plain"
    description = "sum of weight x gradient"

    def of_layer(self, layer: LayerGradient) -> float:
        """Sum over the weights."""
        return total(layer.weight * layer.gradient)


class GradNorm(OneBackward):
    """Euclidean norm of each layer's weight gradient."""

    name = "grad_norm"
    description = "sum over layers of the norm of the weight gradient"

    def of_layer(self, layer: LayerGradient) -> float:
        """Norm of the gradient."""
        return float(torch.linalg.vector_norm(layer.gradient, dtype=torch.float64))


class Fisher(OneBackward):
    """Channel saliency (Turner et al., ICLR 2020), a channel counted once per weight that it has."""

    name = "fisher"
    description = "squared activation x gradient of each channel, once per weight of the channel"

    def of_layer(self, layer: LayerGradient) -> float:
        """Sum over the weights of their channel's saliency."""
        return total(layer.saliency) * layer.weight[0].numel()
