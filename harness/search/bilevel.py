"""Gradients of the alphas in the bilevel problem of DARTS (Liu et al., ICLR 2019, section 2.3).

Minimise L_validation(w*(alpha), alpha) where w*(alpha) minimises L_training(w, alpha). A loss here is a function
without arguments that runs the supernet, as it is now, on one batch: the same on every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]

PERTURBATION = 1e-2
"""Length of the finite difference that estimates the Hessian-vector product (DARTS, section 2.3, footnote 2)."""


def first_order_gradient(validation_loss: Loss, alphas: Sequence[nn.Parameter]) -> list[Tensor]:
    """Gradient of the validation loss at the weights as they are, for the alphas alone.

    The published loop runs the whole backward pass and throws the gradients of the weights away; leaving them
    out saves a third of the arithmetic of convolutions.
    """
    return list(torch.autograd.grad(validation_loss(), alphas))


def second_order_gradient(
    training_loss: Loss,
    validation_loss: Loss,
    alphas: Sequence[nn.Parameter],
    optimiser: torch.optim.SGD,
    clip: float | None = None,
) -> list[Tensor]:
    """Gradient of the validation loss after one virtual step of the weights on the training loss.

    With w' the weights after that step and xi the learning rate of `optimiser`, which holds all weights in one
    group: grad_alpha L_val(w', alpha) - xi * H v, for v = grad_w' L_val(w', alpha) and H the second derivative
    of L_train by alpha and w (equation 7). The weights come back to the bit; their momentum is only read.

    With `clip` the gradient of that step is shortened to this norm, as rnn/architect.py does; the factor by which
    it is counts as a constant and stands before H too.
    """
    group = optimiser.param_groups[0]
    weights: list[nn.Parameter] = group["params"]
    start = [weight.detach().clone() for weight in weights]
    gradients = torch.autograd.grad(training_loss(), weights)
    factor = 1.0 if clip is None else _clipping(gradients, clip)
    if factor < 1:
        gradients = tuple(factor * gradient for gradient in gradients)
    _place(weights, start, _virtual_step(optimiser, gradients), -group["lr"])
    both = torch.autograd.grad(validation_loss(), [*alphas, *weights])
    direct, vector = both[: len(alphas)], both[len(alphas) :]
    product = _hessian_vector_product(training_loss, alphas, weights, start, vector)
    _place(weights, start, vector, 0.0)
    rate = factor * group["lr"]
    return [gradient - rate * curvature for gradient, curvature in zip(direct, product, strict=True)]


def hessian_vector_product(
    training_loss: Loss,
    alphas: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    vector: Sequence[Tensor],
) -> list[Tensor]:
    """Second derivative of the training loss by alphas and weights, times `vector`, shaped as the weights.

    By central differences (equation 8): (g(w + epsilon v) - g(w - epsilon v)) / (2 epsilon) with g the gradient
    by the alphas and epsilon = 0.01 / |v|; zero for a zero vector. The weights come back to the bit.
    """
    start = [weight.detach().clone() for weight in weights]
    product = _hessian_vector_product(training_loss, alphas, weights, start, vector)
    _place(weights, start, vector, 0.0)
    return product


def _hessian_vector_product(
    training_loss: Loss,
    alphas: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    start: Sequence[Tensor],
    vector: Sequence[Tensor],
) -> list[Tensor]:
    length = float(nn.utils.get_total_norm(vector))
    if length == 0:
        return [torch.zeros_like(alpha) for alpha in alphas]
    epsilon = PERTURBATION / length
    with at_rest(weights):
        _place(weights, start, vector, epsilon)
        above = torch.autograd.grad(training_loss(), alphas)
        _place(weights, start, vector, -epsilon)
        below = torch.autograd.grad(training_loss(), alphas)
    return [(plus - minus) / (2 * epsilon) for plus, minus in zip(above, below, strict=True)]


@contextmanager
def at_rest(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """What runs inside keeps nothing for gradients of these weights, and computes none."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def _clipping(gradients: Sequence[Tensor], clip: float) -> float:
    """By what clipping to this norm multiplies the gradients."""
    norm = float(nn.utils.get_total_norm(gradients))
    return clip / norm if norm > clip else 1.0


def _virtual_step(optimiser: torch.optim.SGD, gradients: Sequence[Tensor]) -> list[Tensor]:
    """What SGD would subtract, before the learning rate: momentum, gradient and weight decay."""
    group = optimiser.param_groups[0]
    steps = []
    for weight, gradient in zip(group["params"], gradients, strict=True):
        step = gradient.add(weight.detach(), alpha=group["weight_decay"])
        momentum = optimiser.state[weight].get("momentum_buffer")
        steps.append(step if momentum is None else step.add_(momentum, alpha=group["momentum"]))
    return steps


@torch.no_grad()
def _place(
    weights: Sequence[nn.Parameter], start: Sequence[Tensor], direction: Sequence[Tensor], scale: float
) -> None:
    """Set the weights to start + scale * direction; exactly to start where the scale is 0."""
    for weight, origin, change in zip(weights, start, direction, strict=True):
        weight.copy_(origin)
        if scale:
            weight.add_(change, alpha=scale)
