"""GradSign: whether the gradients of single images point the same way (Zhang and Jia, ICLR 2022)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, weighted_layers
from spaces.base import Counting

AT_ONCE = 16
"""Images whose gradients are held at a time: for a million weights, 64 MB."""


class GradSign(Scorer):
    """Sum over weights of |sum over images of the sign of the image's own gradient|.

    Each image passes alone, so batch norm takes the statistics of one image.
    """

    name = "gradsign"
    description = "sum over weights of |sum of the signs of the images' gradients|"
    source = "Zhang and Jia, ICLR 2022; MeCo repository: correlation/.../gradsign.py"
    cost = "one forward and backward pass of every image alone"
    needs: ClassVar[frozenset[Needs]] = frozenset({"images", "labels", "gradients"})
    counting: ClassVar[Counting | None] = "live"

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """The sum over the weights of convolutions and linear layers."""
        names = [f"{name}.weight" for name in weighted_layers(candidate)]
        network = replace_all_batch_norm_modules_(copy.deepcopy(candidate))
        weights = {name: network.get_parameter(name).detach() for name in names}

        def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(network, weights, (image[None],))
            return torch.nn.functional.cross_entropy(logits, label[None])

        signs = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        labels = batch.labels.to(batch.images.device)
        with as_in_training(network, batch.images, backend.seed):
            of_each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
            parts = zip(torch.split(batch.images, AT_ONCE), torch.split(labels, AT_ONCE), strict=True)
            for images, classes in parts:
                for name, gradients in of_each(weights, images, classes).items():
                    signs[name] += gradients.detach().sign().sum(0)
        return Score(float(sum(sign.abs().sum(dtype=torch.float64) for sign in signs.values())))
