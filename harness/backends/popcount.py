"""Popcounts, channel statistics and determinants, compiled when first used.

Everything here runs on one core and in one fixed order, so its results do not depend on threads.
"""

from __future__ import annotations

import numpy as np

from spaces.compiled import compiled


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
