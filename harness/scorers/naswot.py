"""NASWOT: log-determinant of the ReLU-code Hamming kernel at initialisation (Mellor et al., ICML 2021)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.backends.loops import eliminate
from harness.backends.module import module_kernel
from harness.scorers.base import Reads, Score, Scorer
from spaces.base import Counting
from spaces.plan import Plan

if TYPE_CHECKING:
    from harness.backends import Backend
    from harness.datasets import Batch

NO_RELU = "no counted ReLU"
SINGULAR = "singular kernel"


class NASWOT(Scorer):
    """Counts the ReLUs on a live path from input to output: the network as a function."""

    name = "naswot"
    description = "log |det K| of the ReLU codes, ReLUs on a path from input to output"
    source = "Mellor et al., ICML 2021: score_networks.py, scores.py"
    cost = "one forward pass"
    reads: ClassVar[Reads] = "plan"
    counting: ClassVar[Counting | None] = "live"
    twins: ClassVar[tuple[str, ...]] = ("naswot-published",)

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """log |det K| on the batch's images, in training mode; the images lie on the backend's device."""
        if isinstance(candidate, Plan):
            return log_determinant(backend.kernel(candidate, batch.images))
        return log_determinant(module_kernel(candidate, batch.images, backend.seed))


class NASWOTPublished(NASWOT):
    """Counts every ReLU that the authors' program counts: those on dead branches too.

    Their zero edge multiplies by 0, so the backward pass reaches every ReLU of a NAS-Bench-201 network.
    """

    name = "naswot-published"
    description = "log |det K| as the authors' program computes it, ReLUs on dead branches too"
    counting: ClassVar[Counting | None] = "all"
    twins: ClassVar[tuple[str, ...]] = ("naswot",)


def log_determinant(kernel: NDArray[np.int64] | None) -> Score:
    """log |det K| of a symmetric integer kernel [B, B], or the reason why it has none.

    K is positive semidefinite, so its pivots say whether it is singular. The elimination is made of
    single operations in one order: the same bits whatever the threads and the linear algebra library.
    """
    if kernel is None:
        return Score(None, NO_RELU)
    work = kernel.astype(np.float64)
    smallest = len(work) * np.finfo(np.float64).eps * work.max()
    pivots = np.empty(len(work))
    if eliminate(work, smallest, pivots) < len(work):
        return Score(None, SINGULAR)
    return Score(math.fsum(map(math.log, pivots)))
