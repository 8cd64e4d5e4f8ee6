"""One mixed node of the supernet's cell, and its gradient: as torch operations, and fused for CPUs.

A node is batch norm of sum_j (P_j s_j + c_j (sum_k p_jk f_k(h_j) - P_j s_j)) over its predecessors s_j, with the
gate c_j and the candidate h_j of each, and P_j = sum_k p_jk: the highway updates of all activations f_k in one.
The fused form reads every buffer once and needs one sigmoid of the whole product, as
tanh(x) = (2 y - 1) / (2 y^2 - 2 y + 1) for y = sigmoid(x).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spaces.compiled import compiled

EPSILON = 1e-5
"""Added to variances, as torch's batch norm does."""


# Sums may be reordered so that they vectorise. What is not a number stays so: a search must notice.
_loop = compiled(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


class Node(NamedTuple):
    """What a node reads and makes: E edges, batch B, H units.

    before: [E, B, H], the predecessors. weights: [E, operations], `none` first. product: [E, B, 2H], gate and
    candidate before their functions. squashed: [E, B, 2H], sigmoid of the product. output: [B, H], normalised.
    scale: [1, H], one over the standard deviation.
    """

    before: Tensor
    weights: Tensor
    product: Tensor
    squashed: Tensor
    output: Tensor
    scale: Tensor


def mix(node: Node) -> None:
    """Fill `squashed`, `output` and `scale` from the rest."""
    torch.sigmoid(node.product, out=node.squashed)
    (mix_fused if node.product.device.type == "cpu" else mix_by_torch)(node)


def mix_fused(node: Node) -> None:
    """`mix` on a CPU, after the sigmoid."""
    _mix(*_arrays(node))


def mix_by_torch(node: Node) -> None:
    """`mix` on any device, after the sigmoid."""
    kept, mixed, _ = _mixed(node)
    gate, _ = node.squashed.chunk(2, -1)
    normalise(torch.lerp(kept, mixed, gate).sum(0), node.output, node.scale)


def through_mix(node: Node, gradient: Tensor, to_before: Tensor, to_product: Tensor, to_weights: Tensor) -> None:
    """Gradients by what a node reads, from that by its output [B, H].

    Added to `to_before` [E, B, H], by the way around the products, and to `to_weights` [E, operations]; written
    to `to_product` [E, B, 2H].
    """
    to_sum = through_norm(gradient, node.output, node.scale)
    through = through_mix_fused if node.product.device.type == "cpu" else through_mix_by_torch
    through(node, to_sum, to_before, to_product, to_weights)


def through_mix_fused(
    node: Node, to_sum: Tensor, to_before: Tensor, to_product: Tensor, to_weights: Tensor
) -> None:
    """`through_mix` on a CPU, from the gradient by what is normalised."""
    _through_mix(*_arrays(node)[:4], *(part.numpy() for part in (to_sum, to_before, to_product, to_weights)))


def through_mix_by_torch(
    node: Node, to_sum: Tensor, to_before: Tensor, to_product: Tensor, to_weights: Tensor
) -> None:
    """`through_mix` on any device, from the gradient by what is normalised."""
    kept, mixed, activations = _mixed(node)
    gate, half = node.squashed.chunk(2, -1)
    to_gate, to_candidate = to_product.chunk(2, -1)
    through = to_sum * gate
    around = to_sum - through
    to_before += around * _column(node.weights[:, 1:].sum(1))
    for column, activation in enumerate(activations, start=1):
        to_weights[:, column] += (through * activation + around * node.before).sum((1, 2))
    torch.mul(through * (1 - gate), mixed - kept, out=to_gate)
    tanh, _, _, candidate = activations
    slopes = (1 - tanh * tanh, (candidate > 0).to(half.dtype), half * (1 - half), torch.ones_like(half))
    torch.mul(through, _weighted(node.weights, slopes), out=to_candidate)


def normalise(node: Tensor, output: Tensor, scale: Tensor) -> None:
    """Batch norm of [B, H] without scale and shift, by the statistics of the batch."""
    variance, mean = torch.var_mean(node, 0, correction=0, keepdim=True)
    torch.rsqrt(variance + EPSILON, out=scale)
    torch.mul(node - mean, scale, out=output)


def through_norm(gradient: Tensor, output: Tensor, scale: Tensor) -> Tensor:
    """Gradient by the input of a batch norm [B, H], from that by its output and the output itself."""
    along = (gradient * output).mean(0, keepdim=True)
    return (gradient - gradient.mean(0, keepdim=True)).addcmul_(output, along, value=-1).mul_(scale)


def _mixed(node: Node) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Predecessors times P, the weighted sum of the activations, and these alone, each [E, B, H]."""
    candidate, half = (part.chunk(2, -1)[1] for part in (node.product, node.squashed))
    activations = (candidate.tanh(), candidate.relu(), half, candidate)
    return node.before * _column(node.weights[:, 1:].sum(1)), _weighted(node.weights, activations), activations


def _weighted(weights: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    total = _column(weights[:, 1]) * parts[0]
    for column, part in enumerate(parts[1:], start=2):
        total.addcmul_(_column(weights[:, column]), part)
    return total


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]


def _arrays(node: Node) -> list[Any]:
    return [part.numpy() for part in node]


@_loop
def _mix(before, weights, product, squashed, output, scale):  # type: ignore[no-untyped-def]
    """Fill output and scale; arrays as in `Node`."""
    edges, batch, width = before.shape
    one = output.dtype.type(1)
    epsilon = output.dtype.type(EPSILON)
    total, squares = scale[0], np.zeros(width, output.dtype)
    total[:] = 0
    for row in range(batch):
        node = output[row]
        node[:] = 0
        for edge in range(edges):
            _, tanh, relu, sigmoid, identity = weights[edge]
            kept = tanh + relu + sigmoid + identity
            for unit in range(width):
                gate = squashed[edge, row, unit]
                half = squashed[edge, row, width + unit]
                candidate = product[edge, row, width + unit]
                state = kept * before[edge, row, unit]
                odd = half + half - one
                bent = odd / (half * odd + one - half)
                mixed = tanh * bent + relu * max(candidate, 0 * one) + sigmoid * half + identity * candidate
                node[unit] += state + gate * (mixed - state)
        for unit in range(width):
            total[unit] += node[unit]
    for unit in range(width):
        total[unit] /= batch
    for row in range(batch):
        for unit in range(width):
            output[row, unit] -= total[unit]
            squares[unit] += output[row, unit] * output[row, unit]
    for unit in range(width):
        total[unit] = one / (squares[unit] / batch + epsilon) ** output.dtype.type(0.5)
    for row in range(batch):
        for unit in range(width):
            output[row, unit] *= total[unit]


@_loop
def _through_mix(  # type: ignore[no-untyped-def]
    before, weights, product, squashed, to_sum, to_before, to_product, to_weights
):
    """Gradients as in `through_mix_fused`; arrays as in `Node`."""
    edges, batch, width = before.shape
    one = to_sum.dtype.type(1)
    zero = one - one
    for edge in range(edges):
        _, tanh, relu, sigmoid, identity = weights[edge]
        kept = tanh + relu + sigmoid + identity
        by_tanh, by_relu, by_sigmoid, by_identity, by_kept = zero, zero, zero, zero, zero
        for row in range(batch):
            for unit in range(width):
                gate = squashed[edge, row, unit]
                half = squashed[edge, row, width + unit]
                candidate = product[edge, row, width + unit]
                state = before[edge, row, unit]
                odd = half + half - one
                bent = odd / (half * odd + one - half)
                raised = max(candidate, zero)
                step = one if candidate > zero else zero
                through = to_sum[row, unit] * gate
                around = to_sum[row, unit] - through
                mixed = tanh * bent + relu * raised + sigmoid * half + identity * candidate
                slope = tanh * (one - bent * bent) + relu * step + sigmoid * half * (one - half) + identity
                to_product[edge, row, unit] = through * (one - gate) * (mixed - kept * state)
                to_product[edge, row, width + unit] = through * slope
                to_before[edge, row, unit] += around * kept
                by_tanh += through * bent
                by_relu += through * raised
                by_sigmoid += through * half
                by_identity += through * candidate
                by_kept += around * state
        to_weights[edge, 1] += by_tanh + by_kept
        to_weights[edge, 2] += by_relu + by_kept
        to_weights[edge, 3] += by_sigmoid + by_kept
        to_weights[edge, 4] += by_identity + by_kept
