"""Triton kernels between convolutions: batch norm, ReLU and sign bits in one pass, and differing bits counted.

Tensors of feature maps are float32 [B, C, H, W] without gaps, channels last or first. Every sum runs in an
order that the shape alone fixes, or over integers. Kernels are compiled on their first call.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal, get_args

import torch
import triton
import triton.language as tl
from torch import Tensor

WORD_BITS = 32
TILE_WORDS = 32
"""Words that one program packs: 1,024 units of one image."""

MOST_PARTS = 128
"""Pieces of a batch whose sums are taken side by side; a power of 2."""

TILE_ROWS, TILE_CHANNELS = 64, 16
"""Pixels and channels that one program adds up at a time."""

TILE_IMAGES = 64
"""A program compares so many images with so many."""

WORDS_COMPARED = 256
"""Words that one program compares."""

Form = Literal["plain", "rectified", "words"]
"""How a reader wants a feature map x: `plain` x and `rectified` ReLU(x), float32 [B, C, H, W], or its signs as
`words`, int32 [W, B]."""


def batch_statistics(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean of each channel, and 1 / sqrt(biased variance + epsilon), float32 [C] each, summed in float64."""
    channels = x.shape[1]
    rows = x.numel() // channels
    rows_each = TILE_ROWS * triton.cdiv(rows, TILE_ROWS * MOST_PARTS)
    parts = triton.cdiv(rows, rows_each)
    tiles = triton.cdiv(channels, TILE_CHANNELS)
    sums = torch.empty(parts, 2, channels, dtype=torch.float64, device=x.device)
    mean, inverse = torch.empty(2, channels, device=x.device)
    _partial_sums[parts, tiles](x, sums, rows, channels, _pixels_between(x), rows_each, TILE_ROWS, TILE_CHANNELS)
    _combine_sums[tiles,](sums, mean, inverse, parts, rows, channels, epsilon, MOST_PARTS, TILE_CHANNELS)
    return mean, inverse


def finish(x: Tensor, statistics: tuple[Tensor, Tensor] | None, wanted: Set[Form]) -> dict[Form, Tensor]:
    """The wanted forms of x, or of (x - mean) * inverse for `statistics` = (mean, inverse), in one pass.

    A sign is 1 above 0. Bit b of words[w, i] is unit 32 w + b of image i, units in memory order; bits past
    the last unit are 0.
    """
    batch, channels = x.shape[:2]
    units = x[0].numel()
    written: dict[Form, Tensor] = {}
    if "plain" in wanted and statistics is not None:
        written["plain"] = torch.empty_like(x)
    if "rectified" in wanted:
        written["rectified"] = torch.empty_like(x)
    if "words" in wanted:
        shape = (triton.cdiv(units, WORD_BITS), batch)
        written["words"] = torch.empty(shape, dtype=torch.int32, device=x.device)
    if written:
        mean, inverse = statistics or (None, None)
        outputs = [written.get(form) for form in get_args(Form)]
        grid = (batch, triton.cdiv(units, WORD_BITS * TILE_WORDS))
        _finish[grid](x, mean, inverse, *outputs, batch, units, channels, _pixels_between(x), TILE_WORDS)
    return written if statistics is not None else {"plain": x, **written}


def differing_bits(words: Tensor) -> Tensor:
    """Hamming distance of the codes of each pair of images, int64 [B, B]; words int32 [W, B]."""
    count, batch = words.shape
    distances = torch.zeros(batch, batch, dtype=torch.int64, device=words.device)
    tiles = triton.cdiv(batch, TILE_IMAGES)
    grid = (triton.cdiv(count, WORDS_COMPARED), tiles, tiles)
    _add_differing_bits[grid](words, distances, count, batch, WORDS_COMPARED, TILE_IMAGES)
    return distances


def _pixels_between(x: Tensor) -> int:
    """How far apart two channels of one pixel lie in memory. Raises ValueError for a map with gaps."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return 1
    if not x.is_contiguous():
        raise ValueError(f"expected a feature map without gaps, not strides {x.stride()}")
    return x.shape[2] * x.shape[3]


@triton.jit  # type: ignore[untyped-decorator]
def _partial_sums(  # type: ignore[no-untyped-def]
    x, sums, rows, channels, between, rows_each, tile_rows: tl.constexpr, tile_channels: tl.constexpr
):
    """sums[part] = sum and sum of squares of each channel over the part's rows; a row is a pixel of an image."""
    part = tl.program_id(0)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    total = tl.zeros([tile_rows, tile_channels], tl.float64)
    squares = tl.zeros([tile_rows, tile_channels], tl.float64)
    for start in range(0, rows_each, tile_rows):
        row = part.to(tl.int64) * rows_each + start + tl.arange(0, tile_rows)
        first = row // between * channels * between + row % between
        inside = (row < rows)[:, None] & (channel < channels)[None, :]
        value = tl.load(x + first[:, None] + channel[None, :] * between, mask=inside, other=0.0).to(tl.float64)
        total += value
        squares += value * value
    stored = sums + part * 2 * channels + channel
    tl.store(stored, tl.sum(total, 0), mask=channel < channels)
    tl.store(stored + channels, tl.sum(squares, 0), mask=channel < channels)


@triton.jit  # type: ignore[untyped-decorator]
def _combine_sums(  # type: ignore[no-untyped-def]
    sums, mean, inverse, parts, rows, channels, epsilon, most_parts: tl.constexpr, tile_channels: tl.constexpr
):
    """Mean and 1 / sqrt(variance + epsilon) of each channel from the sums of all parts."""
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    part = tl.arange(0, most_parts)
    stored = sums + part[:, None] * 2 * channels + channel[None, :]
    inside = (part < parts)[:, None] & (channel < channels)[None, :]
    average = tl.sum(tl.load(stored, mask=inside, other=0.0), 0) / rows
    square = tl.sum(tl.load(stored + channels, mask=inside, other=0.0), 0) / rows
    variance = tl.maximum(square - average * average, 0.0)
    tl.store(mean + channel, average.to(tl.float32), mask=channel < channels)
    tl.store(inverse + channel, (1 / tl.sqrt(variance + epsilon)).to(tl.float32), mask=channel < channels)


@triton.jit  # type: ignore[untyped-decorator]
def _finish(  # type: ignore[no-untyped-def]
    x, mean, inverse, plain, rectified, words, batch, units, channels, between, tile_words: tl.constexpr
):
    """Write what is not None of: x normalised, its ReLU, its signs; for some words of one image."""
    image = tl.program_id(0).to(tl.int64)
    word = tl.program_id(1) * tile_words + tl.arange(0, tile_words)
    bit = tl.arange(0, 32)
    unit = word[:, None] * 32 + bit[None, :]
    inside = unit < units
    # What lies outside stays 0 through all that follows, and 0 has no bit.
    value = tl.load(x + image * units + unit, mask=inside, other=0.0)
    if mean is not None:
        channel = unit // between % channels
        value -= tl.load(mean + channel, mask=inside, other=0.0)
        value *= tl.load(inverse + channel, mask=inside, other=0.0)
    if plain is not None:
        tl.store(plain + image * units + unit, value, mask=inside)
    if rectified is not None:
        # Not a maximum, which would turn NaN into 0.
        tl.store(rectified + image * units + unit, tl.where(value < 0, 0.0, value), mask=inside)
    if words is not None:
        signs = tl.sum((value > 0).to(tl.int32) << bit[None, :], 1)
        tl.store(words + word.to(tl.int64) * batch + image, signs, mask=word * 32 < units)


@triton.jit  # type: ignore[untyped-decorator]
def _add_differing_bits(  # type: ignore[no-untyped-def]
    words, distances, count, batch, words_compared: tl.constexpr, tile_images: tl.constexpr
):
    """Add the distances over some words, for a tile of pairs; integers, so the order of the adding is free."""
    left = tl.program_id(1) * tile_images + tl.arange(0, tile_images)
    right = tl.program_id(2) * tile_images + tl.arange(0, tile_images)
    start = tl.program_id(0) * words_compared
    distance = tl.zeros([tile_images, tile_images], tl.int32)
    row = words + start.to(tl.int64) * batch
    for _ in range(start, tl.minimum(start + words_compared, count)):
        a = tl.load(row + left, mask=left < batch, other=0).to(tl.uint32, bitcast=True)
        b = tl.load(row + right, mask=right < batch, other=0).to(tl.uint32, bitcast=True)
        # LLVM makes the processor's population count of this.
        bits = a[:, None] ^ b[None, :]
        bits = bits - ((bits >> 1) & 0x55555555)
        bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
        bits = (bits + (bits >> 4)) & 0x0F0F0F0F
        distance += ((bits * 0x01010101) >> 24).to(tl.int32)
        row += batch
    pair = left[:, None].to(tl.int64) * batch + right[None, :]
    inside = (left < batch)[:, None] & (right < batch)[None, :]
    tl.atomic_add(distances + pair, distance.to(tl.int64), mask=inside, sem="relaxed")
