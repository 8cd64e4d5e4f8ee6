"""Initial weights, each drawn from a generator keyed by (seed, parameter name).

Any process can make any weight, in any order, and gets the same bits: NumPy keeps the raw stream of its
counter-based Philox generator fixed across versions and platforms.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def keyed_generator(seed: int, name: str) -> np.random.Generator:
    """Generator of the stream that belongs to this seed and name."""
    key = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def draw_weight(name: str, shape: tuple[int, ...], fan_in: int, seed: int) -> NDArray[np.float32]:
    """Uniform in ±1/sqrt(fan_in): torch's own initialisation of convolutions and linear layers.

    The NASWOT authors leave the framework's initialisation untouched (their score_networks.py), so this is
    the published draw.
    """
    bound = np.float32(fan_in**-0.5)
    count = math.prod(shape)
    words = keyed_generator(seed, name).bit_generator.random_raw((count + 1) // 2).view(np.uint32)[:count]
    unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return (2 * unit - 1).reshape(shape) * bound
