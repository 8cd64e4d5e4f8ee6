"""GraSP: how much removing a weight would reduce the gradient flow (Wang et al., ICLR 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, cross_entropy, total, weights_of
from spaces.base import Counting


class GraSP(Scorer):
    """-weight x (H g), g the gradient of the cross entropy and H its Hessian.

    The sign is the one that Abdelfattah et al. turned it to, under which more is better.
    """

    name = "grasp"
    description = "sum of -weight x (Hessian x gradient)"
    source = "Wang et al., ICLR 2020; Abdelfattah et al., ICLR 2021: foresight/pruners/measures/grasp.py"
    cost = "one forward, backward and second-order backward pass"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "labels", "gradients"})
    counting: ClassVar[Counting | None] = "live"

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """Sum over the weights of convolutions and linear layers."""
        weights = weights_of(candidate)
        with as_in_training(candidate, batch.images, backend.seed):
            loss = cross_entropy(candidate, batch.images, batch.labels)
            gradients = torch.autograd.grad(
                loss, weights, create_graph=True, allow_unused=True, materialize_grads=True
            )
            flow = sum(torch.sum(gradient.detach() * gradient) for gradient in gradients)
            assert isinstance(flow, torch.Tensor)
            products = torch.autograd.grad(flow, weights, allow_unused=True, materialize_grads=True)
        pairs = zip(weights, products, strict=True)
        return Score(sum(total(-weight.detach() * product) for weight, product in pairs))
