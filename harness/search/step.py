"""One step of a differentiable search: a batch moves the alphas, another the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.search.bilevel import Loss, at_rest, first_order_gradient, second_order_gradient
from harness.search.methods import SearchRecipe
from harness.training.trainer import make_optimiser
from spaces.supernet import AnySupernet

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and labels [B]."""


class BilevelStep:
    """A supernet and the optimisers of its weights and of its alphas, whatever it reads.

    `order` 1 takes the gradient of the alphas at the weights as they are, 2 after one virtual step; the gradient
    of the weights is shortened to norm `clip`, that of the virtual step to `virtual_clip`; None for never.
    """

    def __init__(
        self,
        supernet: AnySupernet,
        weight_optimiser: torch.optim.SGD,
        alpha_optimiser: torch.optim.Optimizer,
        *,
        order: int,
        clip: float | None,
        virtual_clip: float | None = None,
    ) -> None:
        self._weights = supernet.weights()
        self._alphas = supernet.alphas()
        self._order = order
        self._clip = clip
        self._virtual_clip = virtual_clip
        self.weight_optimiser = weight_optimiser
        self.alpha_optimiser = alpha_optimiser

    def move_alphas(self, training_loss: Loss, validation_loss: Loss) -> None:
        """One step down the validation loss; the training loss is for the second order."""
        for alpha, part in zip(self._alphas, self.alpha_gradient(training_loss, validation_loss), strict=True):
            alpha.grad = part
        self.alpha_optimiser.step()

    def alpha_gradient(self, training_loss: Loss, validation_loss: Loss) -> list[Tensor]:
        """Gradient of the validation loss by the alphas, of the step's order."""
        if self._order == 1:
            with at_rest(self._weights):
                return first_order_gradient(validation_loss, self._alphas)
        return second_order_gradient(
            training_loss, validation_loss, self._alphas, self.weight_optimiser, self._virtual_clip
        )

    def move_weights(self, objective: Tensor) -> None:
        """One step down an objective that the supernet has just computed."""
        self.weight_optimiser.zero_grad()
        objective.backward(inputs=self._weights)  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._weights, self._clip)
        self.weight_optimiser.step()


class SearchStep(BilevelStep):
    """The step of a supernet that reads images."""

    def __init__(self, supernet: AnySupernet, recipe: SearchRecipe) -> None:
        alpha_optimiser = torch.optim.Adam(
            supernet.alphas(),
            lr=recipe.alpha_learning_rate,
            betas=recipe.alpha_betas,
            weight_decay=recipe.alpha_weight_decay,
        )
        weight_optimiser = make_optimiser(supernet.weights(), recipe.weights)
        super().__init__(supernet, weight_optimiser, alpha_optimiser, order=recipe.order, clip=recipe.weights.clip)
        self._supernet = supernet

    def __call__(self, training: Batch, validation: Batch | None, seed: int) -> tuple[Tensor, Tensor]:
        """Move the alphas, unless they rest for want of a batch, then the weights.

        Torch's own randomness is seeded by `seed` before every pass: all passes of a step drop the same.

        Returns:
            The loss and the logits of the training batch before the weights moved.
        """
        self._supernet.train()
        if validation is not None:
            self.move_alphas(self._loss(training, seed), self._loss(validation, seed))
        torch.manual_seed(seed)
        logits = self._supernet(training[0])
        loss = F.cross_entropy(logits, training[1])
        self.move_weights(loss)
        return loss, logits

    def _loss(self, batch: Batch, seed: int) -> Loss:
        def loss() -> Tensor:
            torch.manual_seed(seed)
            return F.cross_entropy(self._supernet(batch[0]), batch[1])

        return loss
