"""Scores of the input gradients: jacov (NASWOT's first version) and EPE-NAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Family, Needs, Score
from harness.scorers.passes import as_in_training, logits_of
from spaces.base import Counting

STABILISER = 1e-5
"""The authors' constant that keeps logarithms and quotients finite."""

MANY_CLASSES = 100
"""Above so many classes EPE-NAS compares classes instead of adding them up."""

NO_CORRELATION = "an image's input gradient is constant, so it has no correlation"


@dataclass(frozen=True, eq=False)
class InputGradients:
    """Gradient of the sum of the logits by each image, float64 [B, pixels], with labels int64 [B]."""

    rows: Tensor
    labels: Tensor
    classes: int


class InputJacobian(Family[InputGradients]):
    """One backward pass of ones to the images, in training mode."""

    cost = "one forward and backward pass"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "gradients"})
    counting: ClassVar[Counting | None] = "live"

    def look(self, candidate: nn.Module, batch: Batch, backend: Backend) -> InputGradients:
        """The gradients, zeros where the logits do not depend on the images."""
        images = batch.images.detach().clone().requires_grad_()
        with as_in_training(candidate, images, backend.seed):
            logits = logits_of(candidate, images)
            (found,) = torch.autograd.grad(logits.sum(), [images], allow_unused=True, materialize_grads=True)
        return InputGradients(found.flatten(1).double(), batch.labels.to(found.device), logits.shape[1])


class Jacov(InputJacobian):
    """-sum over eigenvalues v of the rows' correlation matrix of log(v + k) + 1 / (v + k)."""

    name = "jacov"
    description = "how uncorrelated the input gradients of the images are"
    source = "Mellor et al., 2020 (first version); Abdelfattah et al., ICLR 2021: foresight/.../jacob_cov.py"

    def value(self, seen: InputGradients) -> Score:
        """The score, or a reason where a gradient is constant."""
        correlations = torch.corrcoef(seen.rows)
        if not correlations.isfinite().all():
            return Score(None, NO_CORRELATION)
        shifted = torch.linalg.eigvalsh(correlations) + STABILISER
        return Score(-float((shifted.log() + 1 / shifted).sum()))


class EPENAS(InputJacobian):
    """Correlations of the input gradients within each class (Lopes et al., ICANN 2021).

    s of a class is the sum of log(|correlation| + k). Up to 100 classes the score is the sum of |s|; above,
    s is divided by the class's images, classes of one image are left out, and the score is the mean over
    classes of their distances in s.
    """

    name = "epe_nas"
    description = "how correlated the input gradients are within the classes"
    source = "Lopes et al., ICANN 2021; NASLib: predictors/utils/pruners/measures/epe_nas.py"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "labels", "gradients"})

    def value(self, seen: InputGradients) -> Score:
        """The score, or a reason where a gradient is constant."""
        many = seen.classes > MANY_CLASSES
        sums = []
        for label in torch.unique(seen.labels):
            rows = seen.rows[seen.labels == label]
            if many and len(rows) == 1:
                continue
            logs = (torch.corrcoef(rows).abs() + STABILISER).log().sum()
            sums.append(logs / len(rows) if many else logs)
        if not sums:
            return Score(None, "no class has two images")
        each = torch.stack(sums)
        if not each.isfinite().all():
            return Score(None, NO_CORRELATION)
        if many:
            return Score(float((each[:, None] - each).abs().sum()) / len(each))
        return Score(float(each.abs().sum()))
