"""Cross entropy of the next token with its gradient, a slice of the text at a time.

The logits of a part of a text are its tokens times the vocabulary, far more numbers than all states together:
written plainly, most of the time goes into moving them to memory and back. Here a slice that stays in the cache
is decoded, compared and turned into gradients before the next one is touched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SLICE_FLOATS = 1 << 19
"""Logits of a slice, unless one token has more: 2 MiB, the fastest of those tried."""


class TokenLoss(NamedTuple):
    """Mean cross entropy in nats, and how many next tokens were the likeliest."""

    mean: Tensor
    right: Tensor


def next_token_loss(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> TokenLoss:
    """Loss of states [..., hidden] decoded by weight [classes, hidden] and bias [classes]; targets [...]."""
    mean, right = _NextTokenLoss.apply(states.flatten(0, -2), targets.flatten(), weight, bias)
    return TokenLoss(mean, right)


class _NextTokenLoss(Function):
    """Differentiable once; gradients are made on the way forward, for those inputs that ask for one."""

    @staticmethod
    def forward(context: Any, states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Any:
        """States [N, hidden], targets [N]."""
        learns, _, weight_learns, bias_learns = context.needs_input_grad
        to_states = torch.empty_like(states) if learns else None
        to_weight, to_bias = (
            torch.zeros_like(part) if asked else None
            for part, asked in ((weight, weight_learns), (bias, bias_learns))
        )
        rows = min(len(states), max(1, SLICE_FLOATS // len(weight)))
        room, losses = states.new_empty(rows, len(weight)), states.new_empty(len(states))
        right = targets.new_zeros(())
        for start in range(0, len(states), rows):
            here = slice(start, start + rows)
            read, wanted = states[here], targets[here, None]
            logits = torch.addmm(bias, read, weight.T, out=room[: len(read)])
            largest, likeliest = logits.max(1, keepdim=True)
            right += (likeliest == wanted).sum()
            losses[here] = (largest - logits.gather(1, wanted))[:, 0]
            shares = torch.softmax(logits, 1, out=logits)
            # The largest share is no less than 1 / classes, so that its logarithm is exact.
            losses[here] -= shares.gather(1, likeliest).log_()[:, 0]
            gradient = shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
            if to_states is not None:
                torch.mm(gradient, weight, out=to_states[here])
            if to_weight is not None:
                to_weight.addmm_(gradient.T, read)
            if to_bias is not None:
                to_bias += gradient.sum(0)
        context.count = len(states)
        context.gradients = (to_states, None, to_weight, to_bias)
        context.mark_non_differentiable(right)
        return losses.mean(), right

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, _: Tensor) -> Any:
        """Of the sum of the losses until here, of their mean from here."""
        scale = gradient / context.count
        return tuple(None if part is None else part * scale for part in context.gradients)
