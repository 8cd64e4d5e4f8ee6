"""HOW it is measured: data, scorers, engine, store, ground truth, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.scorers.base import Score

__all__ = ["score_network"]


def score_network(network: nn.Module, images: Tensor, scorer: str = "naswot", seed: int = 0) -> Score:
    """Score of a torch module of your own on a batch of images, with the weights that it has.

    Args:
        network: any module; it is run once in training mode and left as it was.
        images: [B, ...] on the network's device, normalised as you would train on them, no two alike.
        scorer: name of a scorer.
        seed: seed of what the network draws while it runs, such as dropout.

    Returns:
        A value, or the reason why there is none. Scores of batches of different size or resolution do not
        compare.

    Raises:
        InputError: unknown scorer, fewer than 2 images, equal images, or a network that cannot be scored.
    """
    from harness.backends.torch_backend import TorchBackend
    from harness.datasets import own_batch
    from harness.scorers.base import load_scorer

    return load_scorer(scorer).score(network, own_batch(images), TorchBackend(images.device, seed))
