"""Weights in the order in which the engine reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.backends.native.lowering import CHANNEL_BLOCK

FILTER_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of F(4, 3): transforms a filter of 3 taps (Lavin and Gray, CVPR 2016)."""


def pack(weight: NDArray[np.float32], winograd: bool) -> NDArray[np.float32]:
    """[out, in, k, k] as float32 [out / 4, k * k, in, 4]; with `winograd` as [36, out / 4, in, 4], transformed."""
    taps: NDArray[np.floating] = weight
    if winograd:
        taps = FILTER_TRANSFORM @ weight.astype(np.float64) @ FILTER_TRANSFORM.T
    outputs, inputs = weight.shape[:2]
    blocks = taps.reshape(outputs // CHANNEL_BLOCK, CHANNEL_BLOCK, inputs, -1)
    return np.ascontiguousarray(blocks.transpose((3, 0, 2, 1) if winograd else (0, 3, 2, 1)), np.float32)
