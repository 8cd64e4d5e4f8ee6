"""ZiCo: gradients that are large and stable across batches (Li et al., ICLR 2023)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, cross_entropy, gradients_of, total, weights_of
from spaces.base import Counting


class ZiCo(Scorer):
    """Sum over layers of log of the sum over weights of mean |g| / std(g), across the two halves of the batch.

    The authors take two batches of 128: that is a batch of 256 here. The standard deviation is of g, as in
    their code, not of |g|, as in their equation 15; weights where it is 0 are left out, and layers of only such.
    """

    name = "zico"
    description = "sum over layers of the log of mean |gradient| / deviation across two half batches"
    source = "Li et al., ICLR 2023: ZeroShotProxy/compute_zico.py"
    cost = "two forward and backward passes of half the batch"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "labels", "gradients"})
    counting: ClassVar[Counting | None] = "live"

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The score, or a reason where no gradient varies."""
        weights = weights_of(candidate)
        halves = []
        for images, labels in zip(batch.images.chunk(2), batch.labels.chunk(2), strict=True):
            with as_in_training(candidate, images, backend.seed):
                halves.append(gradients_of(cross_entropy(candidate, images, labels), weights))
        ratios = [stability(torch.stack(pair)) for pair in zip(*halves, strict=True)]
        logs = [math.log(ratio) for ratio in ratios if ratio > 0]
        return Score(sum(logs)) if logs else Score(None, "no gradient varies between the halves of the batch")


def stability(gradients: Tensor) -> float:
    """Sum over the weights of mean |g| / std(g) across gradients [batches, ...], where that is not 0."""
    deviation = gradients.std(0, correction=0)
    varying = deviation > 0
    return total(gradients.abs().mean(0)[varying] / deviation[varying])
