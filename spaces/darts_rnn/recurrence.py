"""The recurrence of the supernet's cell over a text, with its gradient written out.

Written plainly, a node is a dozen passes over memory for each predecessor and activation, and as many again in
the backward pass, in pieces too small to fill a machine. Here a node is one product and one fused mixture (see
`spaces.darts_rnn.mixing`), the gradient of a weight is added up in place, and none is computed unasked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spaces.darts_rnn.genotype import NODES
from spaces.darts_rnn.mixing import Node, mix, normalise, through_mix, through_norm

EDGES = [slice(number * (number + 1) // 2, (number + 1) * (number + 2) // 2) for number in range(NODES)]
"""Rows of the mixture that are edges into each node: node i, counted from 0, has i + 1 of them."""


class MixedRecurrence(Function):
    """The states after each token, [T, B, hidden].

    parts: [T, B, 2 hidden], what each token adds to gate and candidate of node 0.
    hidden: [B, hidden], the state before the first token. mask: [B, hidden], of what products read; no gradient.
    mixture: [edges, operations], `none` first. state_weight and node_weights: [2 hidden, hidden].

    Differentiable once. The gradient of the weights is computed if they ask for one when the recurrence runs, so
    whoever wants that of the mixture alone freezes them before.
    """

    @staticmethod
    def forward(
        context: Any,
        parts: Tensor,
        hidden: Tensor,
        mask: Tensor,
        mixture: Tensor,
        state_weight: Tensor,
        *node_weights: Tensor,
    ) -> Tensor:
        """Nodes, and products before and after the sigmoid, are kept for the backward pass."""
        places, (batch, width) = len(parts), hidden.shape
        states = parts.new_empty(places + 1, batch, width)
        first = parts.new_empty(places, batch, 2 * width)
        nodes = parts.new_empty(places, NODES + 1, batch, width)
        read = parts.new_empty(places, NODES, batch, width)
        scales = parts.new_empty(places, NODES + 1, 1, width)
        products = [parts.new_empty(2, places, number + 1, batch, 2 * width) for number in range(NODES)]
        states[0] = hidden
        for place in range(places):
            state = states[place]
            gate, candidate = torch.addmm(parts[place], state * mask, state_weight.T, out=first[place]).chunk(
                2, -1
            )
            node = torch.lerp(state, candidate.tanh_(), gate.sigmoid_())
            normalise(node, nodes[place, 0], scales[place, 0])
            for number, weight in enumerate(node_weights):
                torch.mul(nodes[place, number], mask, out=read[place, number])
                product = products[number][0, place]
                torch.mm(read[place, : number + 1].view(-1, width), weight.T, out=product.view(-1, 2 * width))
                mix(_node(number, place, mixture, nodes, scales, products))
            torch.mean(nodes[place, 1:], 0, out=states[place + 1])
        context.save_for_backward(
            mask, mixture, states, first, nodes, read, scales, state_weight, *node_weights, *products
        )
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Any:
        """From the last place to the first, from the last node to the first."""
        mask, mixture, states, first, nodes, read, scales, state_weight, *rest = context.saved_tensors
        node_weights, products = rest[:NODES], rest[NODES:]
        learns = context.needs_input_grad[4]
        to_weights = [torch.zeros_like(weight) if learns else None for weight in (state_weight, *node_weights)]
        to_parts, to_mixture, to_hidden = (torch.zeros_like(part) for part in (first, mixture, mask))
        to_products = [torch.empty_like(product[0, 0]) for product in products]
        for place in reversed(range(len(gradient))):
            to_nodes = (gradient[place] + to_hidden).div_(NODES).repeat(NODES + 1, 1, 1)
            to_nodes[0] = 0
            for number in reversed(range(NODES)):
                to_before, to_product = to_nodes[: number + 1], to_products[number]
                node = _node(number, place, mixture, nodes, scales, products)
                through_mix(node, to_nodes[number + 1], to_before, to_product, to_mixture[EDGES[number]])
                to_before.addcmul_(to_product @ node_weights[number], mask)
                _add(to_weights[number + 1], read[place, : number + 1], to_product)
            to_node = through_norm(to_nodes[0], nodes[place, 0], scales[place, 0])
            gate, tanh = first[place].chunk(2, -1)
            to_gate, to_candidate = to_parts[place].chunk(2, -1)
            torch.mul((tanh - states[place]).mul_(to_node), (1 - gate).mul_(gate), out=to_gate)
            torch.mul(to_node * gate, 1 - tanh * tanh, out=to_candidate)
            to_hidden = to_node.mul_(1 - gate).addcmul_(to_parts[place] @ state_weight, mask)
            _add(to_weights[0], states[place] * mask, to_parts[place])
        return to_parts, to_hidden, None, to_mixture, *to_weights


def _node(number: int, place: int, mixture: Tensor, nodes: Tensor, scales: Tensor, products: list[Tensor]) -> Node:
    """The part of the buffers that belongs to one node at one place."""
    product, squashed = products[number][:, place]
    before, output = nodes[place, : number + 1], nodes[place, number + 1]
    return Node(before, mixture[EDGES[number]], product, squashed, output, scales[place, number + 1])


def _add(to_weight: Tensor | None, read: Tensor, to_product: Tensor) -> None:
    """Add a place's part of the gradient of a weight, if that is asked for."""
    if to_weight is not None:
        to_weight.addmm_(to_product.reshape(-1, to_product.shape[-1]).T, read.reshape(-1, read.shape[-1]))
