"""One step of a differentiable search: a batch moves the alphas, another the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.search.bilevel import Loss, first_order_gradient, second_order_gradient
from harness.search.methods import SearchRecipe
from harness.training.trainer import make_optimiser
from spaces.supernet import AnySupernet

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and labels [B]."""


class SearchStep:
    """A supernet and the optimisers of its weights and of its alphas."""

    def __init__(self, supernet: AnySupernet, recipe: SearchRecipe) -> None:
        self._supernet = supernet
        self._order = recipe.order
        self._clip = recipe.weights.clip
        self._weights = supernet.weights()
        self._alphas = supernet.alphas()
        self.weight_optimiser = make_optimiser(self._weights, recipe.weights)
        self.alpha_optimiser = torch.optim.Adam(
            self._alphas,
            lr=recipe.alpha_learning_rate,
            betas=recipe.alpha_betas,
            weight_decay=recipe.alpha_weight_decay,
        )

    def __call__(self, training: Batch, validation: Batch | None, seed: int) -> tuple[Tensor, Tensor]:
        """Move the alphas, unless they rest for want of a batch, then the weights.

        Torch's own randomness is seeded by `seed` before every pass: all passes of a step drop the same.

        Returns:
            The loss and the logits of the training batch before the weights moved.
        """
        self._supernet.train()
        if validation is not None:
            self._move_alphas(training, validation, seed)
        torch.manual_seed(seed)
        logits = self._supernet(training[0])
        loss = F.cross_entropy(logits, training[1])
        self.weight_optimiser.zero_grad()
        loss.backward(inputs=self._weights)  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._weights, self._clip)
        self.weight_optimiser.step()
        return loss, logits

    def _move_alphas(self, training: Batch, validation: Batch, seed: int) -> None:
        training_loss, validation_loss = (self._loss(batch, seed) for batch in (training, validation))
        if self._order == 1:
            gradient = first_order_gradient(validation_loss, self._alphas)
        else:
            gradient = second_order_gradient(training_loss, validation_loss, self._alphas, self.weight_optimiser)
        for alpha, part in zip(self._alphas, gradient, strict=True):
            alpha.grad = part
        self.alpha_optimiser.step()

    def _loss(self, batch: Batch, seed: int) -> Loss:
        def loss() -> Tensor:
            torch.manual_seed(seed)
            return F.cross_entropy(self._supernet(batch[0]), batch[1])

        return loss
