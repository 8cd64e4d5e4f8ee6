"""Scores of ReLU codes beside NASWOT: SWAP and TE-NAS's linear regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.backends import Backend
from harness.backends.module import _is_rectifier
from harness.datasets import Batch
from harness.scorers.base import Family, Score
from harness.scorers.naswot import NO_RELU
from harness.scorers.passes import as_in_training
from spaces.base import Counting

Codes = NDArray[np.uint8]
"""Packed signs, [ceil(B / 8), units]: a column says on which images its ReLU unit is active."""


class ReLUCodes(Family[Codes]):
    """Every rectifier that runs, in one forward pass in training mode: those on dead branches too."""

    cost = "one forward pass"
    counting: ClassVar[Counting | None] = "all"

    def look(self, candidate: nn.Module, batch: Batch, backend: Backend) -> Codes:
        """The codes of all units."""
        with as_in_training(candidate, batch.images, backend.seed), torch.no_grad(), _SignRecorder() as recorder:
            candidate(batch.images * 1)
        return np.concatenate(recorder.signs, axis=1) if recorder.signs else np.empty((0, 0), np.uint8)

    def value(self, seen: Codes) -> Score:
        """The number that is counted, or a reason where there is no rectifier."""
        return Score(float(self.count(seen))) if seen.size else Score(None, NO_RELU)

    def count(self, codes: Codes) -> int:
        """The score of codes of at least one unit."""
        raise NotImplementedError


class SWAP(ReLUCodes):
    """Different sample-wise activation patterns (Peng et al., ICLR 2024): columns of the codes.

    Not regularised by size. The authors average over initialisations, which is an average over seeds here.
    """

    name = "swap"
    description = "different patterns of ReLU units over the images"
    source = "Peng et al., ICLR 2024: src/metrics/swap.py"

    def count(self, codes: Codes) -> int:
        """Different columns."""
        padded = np.zeros((codes.shape[1], -(-len(codes) // 8) * 8), np.uint8)
        padded[:, : len(codes)] = codes.T
        words = padded.view(np.uint64)
        # A sort of whole words: numpy's own unique is slower by an order of magnitude.
        words = words[np.lexsort(words.T)]
        return 1 + int(np.count_nonzero((words[1:] != words[:-1]).any(1)))


class LinearRegions(ReLUCodes):
    """Different activation patterns of the images (Chen et al., ICLR 2021): rows of the codes.

    On images of ordinary size every image lies in a region of its own. The authors count them in a thin
    network on patches of 3x3 pixels: give few channels, a small image size and a large batch.
    """

    name = "linear_regions"
    description = "different ReLU patterns of the images: linear regions that the batch meets"
    source = "Chen et al., TE-NAS, ICLR 2021: lib/procedures/linear_region_counter.py"

    def count(self, codes: Codes) -> int:
        """Different rows."""
        return len({row.tobytes() for row in np.unpackbits(codes, axis=0, bitorder="little")})


def packed(active: NDArray[np.bool_]) -> Codes:
    """Codes of activities [B, units], 8 images a byte, the first in the lowest bit; NumPy's own is slower here."""
    padded = np.zeros((-(-len(active) // 8) * 8, active.shape[1]), np.uint8)
    padded[: len(active)] = active
    places = np.arange(8, dtype=np.uint8)[:, None]
    codes: Codes = np.bitwise_or.reduce(padded.reshape(-1, 8, active.shape[1]) << places, axis=1)
    return codes


class _SignRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the packed signs of every rectifier's input [B, ...]."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.signs: list[Codes] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        if _is_rectifier(func, args, kwargs or {}):
            assert isinstance(args[0], Tensor)
            self.signs.append(packed((args[0] > 0).flatten(1).cpu().numpy()))
        return func(*args, **(kwargs or {}))
