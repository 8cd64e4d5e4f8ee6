"""MeCo: smallest eigenvalues of the channels' correlations (Jiang et al., NeurIPS 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, normal

SIDE = 64
"""Height and width of the authors' noise image, whatever the data set's."""


class MeCo(Scorer):
    """Sum over module calls of the smallest eigenvalue of the correlation matrix of the output's channels.

    One noise image. Every module that returns a tensor counts, containers and dead branches too; undefined
    correlations are 0. So two programs of one architecture agree only as far as their modules do.
    """

    name = "meco"
    description = (
        "sum over modules of the smallest eigenvalue of the channels' correlation matrix, one noise image"
    )
    source = "Jiang et al., NeurIPS 2023: meco.py"
    cost = "one forward pass of one 64x64 image"
    needs: ClassVar[frozenset[Needs]] = frozenset({"noise"})
    version: ClassVar[int] = 2

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The sum; only the number of channels of the images is used."""
        image = normal("meco/image", (1, batch.images.shape[1], SIDE, SIDE), backend.seed).to(batch.images.device)
        smallest: list[float] = []
        last: tuple[Any, int, float] = (None, 0, 0.0)

        def read(module: Any, inputs: Any, output: Any) -> None:
            nonlocal last
            del module, inputs
            if isinstance(output, Tensor) and output.dim() >= 2:
                # A container returns what its last part returned a moment ago.
                if output is not last[0] or output._version != last[1]:
                    last = output, output._version, smallest_eigenvalue(output[0])
                smallest.append(last[2])

        hooks = [module.register_forward_hook(read) for module in candidate.modules()]
        try:
            with as_in_training(candidate, image, backend.seed), torch.no_grad():
                candidate(image)
        finally:
            for hook in hooks:
                hook.remove()
        return Score(sum(smallest))


def smallest_eigenvalue(feature_map: Tensor) -> float:
    """Of the correlation matrix of the channels of a map [C, ...]; correlations that are undefined are 0."""
    channels = feature_map.detach().reshape(len(feature_map), -1).double()
    if channels.shape[1] < 2:  # one value a channel: no correlation is defined
        return 0.0
    deviations = channels - channels.mean(1, keepdim=True)
    products = deviations @ deviations.T
    norms = products.diagonal().sqrt()
    correlations = products / norms / norms[:, None]
    return float(torch.linalg.eigvalsh(correlations.nan_to_num(0.0, 0.0, 0.0))[0])
