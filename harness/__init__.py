"""HOW it is measured: data, scorers, engine, store, ground truth, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.scorers.base import Score

__all__ = ["score_network"]


def score_network(
    network: nn.Module, images: Tensor, scorer: str = "naswot", seed: int = 0, labels: Tensor | None = None
) -> Score:
    """Score of a torch module of your own on a batch of images, with the weights that it has.

    Args:
        network: any module; it is run once in training mode and left as it was.
        images: [B, ...] on the network's device, normalised as you would train on them, no two alike.
        scorer: name of a scorer.
        seed: seed of what the network draws while it runs, such as dropout.
        labels: int64 [B], for the scorers that read them.

    Returns:
        A value, or the reason why there is none. Scores of batches of different size or resolution do not
        compare.

    Raises:
        InputError: unknown scorer, labels that it needs and lacks, fewer than 2 images, equal images, or a network
            that cannot be scored.
    """
    from harness.backends.torch_backend import TorchBackend
    from harness.datasets import own_batch
    from harness.scorers.base import load_scorer
    from spaces.errors import InputError

    loaded = load_scorer(scorer)
    if "labels" in loaded.needs and labels is None:
        raise InputError(f"scorer {scorer} reads labels: give labels, one for each of the {len(images)} images")
    return loaded.score(network, own_batch(images, labels), TorchBackend(images.device, seed))
