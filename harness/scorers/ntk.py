"""TE-NAS's condition number of the neural tangent kernel (Chen et al., ICLR 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, gradients_of, logits_of
from spaces.base import Counting
from spaces.errors import InputError


class NTK(Scorer):
    """Largest over smallest eigenvalue of the kernel of gradients of each image's summed logits; less is better.

    All images pass together in training mode, so each image's gradient takes a backward pass of the whole
    batch: give a small one. The gradients are by every weight that the authors name so, norms' scales too.
    """

    name = "ntk"
    description = "condition number of the neural tangent kernel"
    source = "Chen et al., TE-NAS, ICLR 2021: lib/procedures/ntk.py"
    cost = "one forward pass and a backward pass for every image"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "gradients"})
    counting: ClassVar[Counting | None] = "live"
    higher_is_better: ClassVar[bool] = False

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The condition number, or a reason where the kernel is singular."""
        weights = [
            parameter
            for name, parameter in candidate.named_parameters()
            if name.endswith("weight") and parameter.requires_grad
        ]
        if not weights:
            raise InputError("no weights, so no tangent kernel")
        rows: list[list[Tensor]] = []
        with as_in_training(candidate, batch.images, backend.seed):
            outputs = logits_of(candidate, batch.images).sum(1)
            for output in outputs:
                rows.append(_kept(output, weights))
        kernel = sum((_gram(torch.stack(column)) for column in zip(*rows, strict=True)), torch.zeros(()))
        eigenvalues = torch.linalg.eigvalsh(kernel)
        if eigenvalues[0] <= len(kernel) * np.finfo(np.float32).eps * eigenvalues[-1]:
            return Score(None, "singular tangent kernel")
        return Score(float(eigenvalues[-1] / eigenvalues[0]))


def _kept(output: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """Gradients of one output; the graph is kept for the next."""
    if not output.requires_grad:
        return gradients_of(output, weights)
    return list(torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True, materialize_grads=True))


def _gram(gradients: Tensor) -> Tensor:
    """Products of gradients [B, ...] with each other, float64 [B, B]."""
    rows = gradients.flatten(1).double()
    return rows @ rows.T
