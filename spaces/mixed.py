"""The mixed operation of an edge: every operation at once, weighted (DARTS, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.operations import (
    DilatedConv,
    NormalisedOperation,
    NormalisedPool,
    SharpSepConv,
    has_phases,
    join_phases,
    split_phases,
)


class Source:
    """A tensor [B, C, H, W] that several edges read: what they all make of it is made once."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._made: dict[tuple[str, int], Tensor] = {}
        self._parts: dict[int, Source] = {}

    def narrow(self, width: int) -> Source:
        """The first `width` channels."""
        if width == self.x.shape[1]:
            return self
        if width not in self._parts:
            self._parts[width] = Source(self.x[:, :width])
        return self._parts[width]

    def rectified(self) -> Tensor:
        """ReLU of x."""
        return self.made("relu", 1, F.relu)

    def phases(self) -> Tensor:
        """ReLU of x taken apart for convolutions of dilation 2."""
        return self.made("phases", 1, lambda _: split_phases(self.rectified()))

    def made(self, name: str, stride: int, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What `make` makes of x, which name and stride must determine."""
        key = name, stride
        if key not in self._made:
            self._made[key] = make(self.x)
        return self._made[key]


class MixedOperation(nn.Module):
    """Sum over operations of weight times output; the operation `none` is given as None and costs nothing.

    Operations that are a `NormalisedOperation` share one ReLU of the input, and take their weight as the scale
    of their batch norm, which saves a pass over memory each way. Edges that read one `Source` share that ReLU
    and their pools, which have no weights to differ by.

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

    def forward(self, x: Tensor | Source, weights: Tensor) -> Tensor:
        """x [B, C, H, W] and weights [operations] to [B, C, H / stride, W / stride]."""
        source = x if isinstance(x, Source) else Source(x)
        if self.partial == 1:
            return self._mix(source, weights)
        width = source.x.shape[1] // self.partial
        passing = source.x[:, width:]
        if self.stride == 2:
            passing = F.max_pool2d(passing, 2)
        mixed = self._mix(source.narrow(width), weights)
        return shuffle_channels(torch.cat((mixed, passing), 1), self.partial)

    def _mix(self, source: Source, weights: Tensor) -> Tensor:
        each = weights.unbind()
        terms, phases = [], []
        for column, (name, operation) in zip(self.columns, self.operations.items(), strict=True):
            if _is_pool(operation):
                terms.append(each[column] * source.made(name, self.stride, operation))
            elif isinstance(operation, DilatedConv) and has_phases(operation.depthwise, source.x):
                body = operation.body_of_phases(source.phases())
                phases.append(scaled_batch_norm(operation.norm, body, each[column]))
            elif isinstance(operation, NormalisedOperation):
                terms.append(scaled_batch_norm(operation.norm, _body(operation, source), each[column]))
            else:
                terms.append(each[column] * self._dropped(operation, operation(source.x)))
        if phases:
            terms.append(join_phases(sum_in_place(phases)))
        return sum_in_place(terms)

    def _dropped(self, operation: nn.Module, output: Tensor) -> Tensor:
        if isinstance(operation, nn.Identity) and self.training and self.skip_dropout:
            return F.dropout(output, self.skip_dropout)
        return output


def sum_in_place(terms: Sequence[Tensor]) -> Tensor:
    """Sum of tensors of one shape, put into the first, which nothing else may need."""
    return reduce(Tensor.add_, terms)


def _body(operation: NormalisedOperation, source: Source) -> Tensor:
    """What comes before the last batch norm, from what edges share."""
    if isinstance(operation, SharpSepConv) and has_phases(operation.first_depthwise, source.x):
        return operation.body_of_phases(source.phases())
    return operation.body(source.rectified() if operation.rectified else source.x)


def _is_pool(operation: nn.Module) -> bool:
    """Whether an operation has nothing of its own, neither weights nor statistics."""
    if isinstance(operation, NormalisedPool):
        return not operation.norm.affine and operation.norm.running_mean is None
    return isinstance(operation, nn.AvgPool2d | nn.MaxPool2d)


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
