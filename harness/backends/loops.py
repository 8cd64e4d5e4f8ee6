"""Loops over codes, feature maps and kernels, for which torch has no operation or a slower one.

Everything here runs on one core and in one fixed order, so its results do not depend on threads.
"""

from __future__ import annotations

import numpy as np

from spaces.compiled import compiled


@compiled(nogil=True)
def pack_signs(values, bits):  # type: ignore[no-untyped-def]
    """Signs of values [B, D], on above 0, as bits uint64 [B, ceil(D / 64)]; the rest of the last word is off."""
    rows, units = values.shape
    for row in range(rows):
        for word in range(units // 64):
            signs = np.uint64(0)
            part = values[row, 64 * word : 64 * word + 64]
            for i in range(64):
                signs |= np.uint64(part[i] > 0) << np.uint64(i)
            bits[row, word] = signs
        if units % 64:
            signs = np.uint64(0)
            for i in range(units % 64):
                signs |= np.uint64(values[row, units // 64 * 64 + i] > 0) << np.uint64(i)
            bits[row, units // 64] = signs


@compiled(nogil=True)
def add_equal_bits(bits, units, multiplicity, kernel):  # type: ignore[no-untyped-def]
    """Add multiplicity x (units - Hamming distance of rows i and j) to kernel[i, j] for j >= i.

    bits uint64 [B, W], kernel int64 [B, B]. LLVM knows the bit trick below as a population count and emits
    the processor's own instruction, vectorised.
    """
    rows, words = bits.shape
    for i in range(rows):
        for j in range(i, rows):
            distance = np.int64(0)
            for word in range(words):
                x = bits[i, word] ^ bits[j, word]
                x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
                x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                distance += np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
            kernel[i, j] += multiplicity * (units - distance)


@compiled(nogil=True)
def channel_moments(values, mean, variance):  # type: ignore[no-untyped-def]
    """Mean and biased variance of each column of values float32 [M, C], summed row by row in float64."""
    rows, channels = values.shape
    totals = np.zeros(channels)
    squares = np.zeros(channels)
    for row in range(rows):
        for channel in range(channels):
            value = np.float64(values[row, channel])
            totals[channel] += value
            squares[channel] += value * value
    for channel in range(channels):
        average = totals[channel] / rows
        mean[channel] = average
        variance[channel] = max(squares[channel] / rows - average * average, 0.0)


@compiled(nogil=True)
def normalise(values, scale, shift):  # type: ignore[no-untyped-def]
    """Scale and shift each column of values float32 [M, C]."""
    rows, channels = values.shape
    for row in range(rows):
        for channel in range(channels):
            values[row, channel] = values[row, channel] * scale[channel] + shift[channel]


@compiled(nogil=True)
def pool_around(values, channels, out):  # type: ignore[no-untyped-def]
    """Mean over the 3x3 pixels around each that lie in the map; values and out float32 [B, H, W x C], W > 1."""
    images, height, floats = values.shape
    columns = np.empty(floats, np.float32)
    # Loops over parts that start at 0: only those are vectorised.
    left, middle, right = columns[: floats - 2 * channels], columns[channels:-channels], columns[2 * channels :]
    for image in range(images):
        for y in range(height):
            first, end = max(y - 1, 0), min(y + 2, height)
            columns[:] = values[image, first]
            for row in range(first + 1, end):
                source = values[image, row]
                for i in range(floats):
                    columns[i] += source[i]
            edge = np.float32(1 / (2 * (end - first)))
            inner = np.float32(1 / (3 * (end - first)))
            to = out[image, y]
            for i in range(channels):
                to[i] = (columns[i] + columns[channels + i]) * edge
            between = to[channels:-channels]
            for i in range(len(between)):
                between[i] = (left[i] + middle[i] + right[i]) * inner
            last, before = columns[floats - channels :], columns[floats - 2 * channels : floats - channels]
            to = to[floats - channels :]
            for i in range(channels):
                to[i] = (before[i] + last[i]) * edge


@compiled(nogil=True)
def eliminate(matrix, smallest, pivots):  # type: ignore[no-untyped-def]
    """Gaussian elimination of a symmetric matrix float64 [B, B] into pivots float64 [B].

    Only its lower triangle is read, and overwritten. Returns how many pivots were found before one that is at
    most `smallest`. Products and differences are rounded one by one, as NumPy does.
    """
    size = len(matrix)
    scaled = np.empty(size)
    for step in range(size):
        pivot = matrix[step, step]
        if pivot <= smallest:
            return step
        pivots[step] = pivot
        for column in range(step + 1, size):
            scaled[column] = matrix[column, step] / pivot
        for row in range(step + 1, size):
            factor = matrix[row, step]
            for column in range(step + 1, row + 1):
                matrix[row, column] -= factor * scaled[column]
    return size
