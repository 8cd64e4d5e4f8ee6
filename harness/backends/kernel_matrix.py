"""The Hamming kernel of ReLU codes, summed exactly in integers (Mellor et al., ICML 2021, section 3)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.backends.loops import add_equal_bits, pack_signs

EXACT_FLOAT32_UNITS = 1 << 24
"""Sums of ones up to here are exact in float32."""


class KernelMatrix:
    """K[i, j] = number of ReLU inputs whose sign is the same for images i and j, over all that were added.

    Integers add up exactly in any order, so K does not depend on how the codes were cut into pieces. What is
    counted on another device than the CPU stays there until `matrix`, so that nothing waits for it.
    """

    def __init__(self, batch_size: int) -> None:
        self.units = 0
        self._upper = np.zeros((batch_size, batch_size), np.int64)
        self._elsewhere: Tensor | None = None

    def add(self, relu_input: Tensor, multiplicity: int = 1) -> None:
        """Count `multiplicity` ReLUs whose input is [B, ...]; active where it is above 0."""
        rows = _rows(relu_input)
        units = rows.shape[1]
        self.units += multiplicity * units
        if rows.device.type == "cpu":
            add_equal_bits(_packed(rows), units, multiplicity, self._upper)
        else:
            self._add_elsewhere(multiplicity * _equal_bits(rows > 0))

    def add_distances(self, distances: Tensor, units: int, multiplicity: int) -> None:
        """Count `multiplicity` x `units` ReLUs whose codes are `distances` apart, int64 [B, B]."""
        self.units += multiplicity * units
        self._add_elsewhere(multiplicity * (units - distances))

    def add_off(self, units: int) -> None:
        """Count ReLU inputs that are 0 for every image: all their bits are equal."""
        self.units += units
        self._upper += np.triu(np.full_like(self._upper, units))

    def _add_elsewhere(self, equal: Tensor) -> None:
        self._elsewhere = equal if self._elsewhere is None else self._elsewhere + equal

    def matrix(self) -> NDArray[np.int64]:
        """K, int64 [B, B], symmetric."""
        here = np.triu(self._upper, 1).T + self._upper
        return here if self._elsewhere is None else here + self._elsewhere.cpu().numpy()


def _rows(relu_input: Tensor) -> Tensor:
    """The units of each image, [B, D], in memory order so that nothing is copied about."""
    relu_input = relu_input.detach()
    if relu_input.dim() == 4 and relu_input.is_contiguous(memory_format=torch.channels_last):
        relu_input = relu_input.permute(0, 2, 3, 1)
    return relu_input.reshape(relu_input.shape[0], -1)


def _packed(rows: Tensor) -> NDArray[np.uint64]:
    """Codes as words of 64 bits, uint64 [B, ceil(D / 64)]; bits past D are 0 in every row."""
    codes = np.empty((rows.shape[0], -(-rows.shape[1] // 64)), np.uint64)
    # Halves and integers are floats too; a double may be too small for one.
    values = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
    pack_signs(values.contiguous().numpy(), codes)
    return codes


def _equal_bits(codes: Tensor) -> Tensor:
    """Number of equal codes of each pair of rows by matrix products, int64 [B, B]; for devices other than CPU.

    Ones and zeros are exact in every format that a device may multiply in, and sums of them in float32.
    """
    rows = codes.shape[0]
    total = torch.zeros(rows, rows, dtype=torch.int64, device=codes.device)
    for part in torch.split(codes, EXACT_FLOAT32_UNITS, dim=1):
        active = part.float()
        counts = active.sum(1)
        both = active @ active.T
        total += (part.shape[1] - counts[:, None] - counts[None, :] + 2 * both).long()
    return total
