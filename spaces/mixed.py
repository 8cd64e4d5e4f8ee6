"""The mixed operation of an edge: every operation at once, weighted (DARTS, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.operations import NormalisedOperation


class MixedOperation(nn.Module):
    """Sum over operations of weight times output; the operation `none` is given as None and costs nothing.

    Operations that are a `NormalisedOperation` share one ReLU of the input, and take their weight as the scale
    of their batch norm, which saves a pass over memory each way.

    Args:
        operations: name to module, in the order of the weights; with partial channels the modules have
            1 / `partial` of the channels.
        stride: of the operations; what passes them by is reduced by 2x2 maximum pooling at stride 2.
        partial: 1 in so many channels goes through the operations, the others pass by, and all are shuffled
            (PC-DARTS, model_search.py); 1 is all.
        skip_dropout: probability of dropout after an identity, in training (P-DARTS); a search lowers it by
            `set_skip_dropout`.
    """

    def __init__(
        self,
        operations: Mapping[str, nn.Module | None],
        *,
        stride: int = 1,
        partial: int = 1,
        skip_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {name: module for name, module in operations.items() if module is not None}
        )
        self.columns = tuple(index for index, module in enumerate(operations.values()) if module is not None)
        self.stride = stride
        self.partial = partial
        self.skip_dropout = skip_dropout

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x [B, C, H, W] and weights [operations] to [B, C, H / stride, W / stride]."""
        if self.partial == 1:
            return self._mix(x, weights)
        width = x.shape[1] // self.partial
        passing = x[:, width:]
        if self.stride == 2:
            passing = F.max_pool2d(passing, 2)
        return shuffle_channels(torch.cat((self._mix(x[:, :width], weights), passing), 1), self.partial)

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        rectified = F.relu(x)
        each = weights.unbind()
        total: Tensor | None = None
        for column, operation in zip(self.columns, self.operations.values(), strict=True):
            if isinstance(operation, NormalisedOperation):
                body = operation.body(rectified if operation.rectified else x)
                term = scaled_batch_norm(operation.norm, body, each[column])
            else:
                term = each[column] * self._dropped(operation, operation(x))
            total = term if total is None else total + term
        if total is None:
            raise ValueError("a mixed operation needs an operation beside none")
        return total

    def _dropped(self, operation: nn.Module, output: Tensor) -> Tensor:
        if isinstance(operation, nn.Identity) and self.training and self.skip_dropout:
            return F.dropout(output, self.skip_dropout)
        return output


def scaled_batch_norm(norm: nn.BatchNorm2d, x: Tensor, scale: Tensor) -> Tensor:
    """scale * norm(x) for x [B, C, H, W], a scalar `scale` and a norm without scale and shift of its own."""
    return F.batch_norm(
        x,
        norm.running_mean,
        norm.running_var,
        # Torch's kernel for channels last reads past a scale that is not laid out in memory.
        scale.repeat(norm.num_features),
        None,
        norm.training or norm.running_mean is None,
        norm.momentum or 0.0,
        norm.eps,
    )


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """[B, C, H, W] with the channels of `groups` equal parts interleaved (PC-DARTS, channel_shuffle)."""
    batch, channels, height, width = x.shape
    parts = x.view(batch, groups, channels // groups, height, width)
    return parts.transpose(1, 2).reshape(batch, channels, height, width)


def set_skip_dropout(supernet: nn.Module, probability: float) -> None:
    """Give every mixed operation of a supernet this probability of dropout after identities."""
    for module in supernet.modules():
        if isinstance(module, MixedOperation):
            module.skip_dropout = probability
