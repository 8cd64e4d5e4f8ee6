"""SynFlow: synaptic flow through the network of absolute weights (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.backends import Backend
from harness.datasets import Batch
from harness.scorers.base import Needs, Score, Scorer
from harness.scorers.passes import as_in_training, gradients_of, logits_of, total, weights_of
from spaces.base import Counting


class SynFlow(Scorer):
    """|weight x dR/dweight|, R the sum of the outputs for one image of ones; absolute weights, no batch norm.

    In float64: values reach 1e61. R is linear in the weights of each layer, so ranks are those of the flow.
    """

    name = "synflow"
    description = "sum of |weight x gradient| of the flow, absolute weights, no batch norm"
    source = "Tanaka et al., NeurIPS 2020; Abdelfattah et al., ICLR 2021: foresight/pruners/measures/synflow.py"
    cost = "one forward and backward pass of one image, in float64"
    needs: ClassVar[frozenset[Needs]] = frozenset({"gradients"})
    counting: ClassVar[Counting | None] = "live"

    def score(self, candidate: Any, batch: Batch, backend: Backend) -> Score:
        """Sum over the weights; only the shape of the images is used."""
        network = linear_copy(candidate)
        weights = weights_of(network)
        ones = torch.ones_like(batch.images[:1], dtype=torch.float64)
        with as_in_training(network, ones, backend.seed):
            network.eval()
            gradients = gradients_of(logits_of(network, ones), weights)
        pairs = zip(weights, gradients, strict=True)
        return Score(sum(total((weight.detach() * gradient).abs()) for weight, gradient in pairs))


def linear_copy(network: nn.Module) -> nn.Module:
    """Copy in float64 with absolute parameters, whose batch norms pass on what they get."""
    linear = copy.deepcopy(network).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    for module in linear.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_hook(lambda _module, inputs, _output: inputs[0])
    return linear
