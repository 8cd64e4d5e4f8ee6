"""One step of a HyperCuboid with all its operations, what they share computed once.

For each width that comes in there is one ReLU, one depthwise convolution for each kernel and dilation, and one
pool; one pointwise convolution then makes all widths that go out. The weight of an operation is the scale of its
batch norm, as in `spaces.mixed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.hypercuboid.operations import ResizablePool, make_normalised_operation, operation_name
from spaces.hypercuboid.path import StepShape
from spaces.mixed import scaled_batch_norm
from spaces.operations import (
    NormalisedOperation,
    NormalisedPool,
    SharpSepConv,
    depthwise_of_phases,
    has_phases,
    join_phases,
    split_phases,
)

OperationT = TypeVar("OperationT", bound=NormalisedOperation)


class Place(NamedTuple):
    """An operation's place in the weights of its step: width in, width out, choice."""

    source: int
    target: int
    choice: int


class Placed(NamedTuple, Generic[OperationT]):
    """An operation at its place."""

    place: Place
    operation: OperationT


class MixedStep(nn.Module):
    """All operations of a step, each ending in a batch norm without scale and shift.

    Args:
        widths: multiples of `channels` that come in and go out.
        shapes: of each choice.
    """

    def __init__(self, widths: Sequence[int], shapes: Sequence[StepShape], channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleDict()
        self._convolutions: dict[tuple[int, int, int], list[Placed[SharpSepConv]]] = {}
        self._pools: dict[tuple[int, int], list[Placed[NormalisedPool | ResizablePool]]] = {}
        for source, inputs in enumerate(widths):
            for target, outputs in enumerate(widths):
                for choice, shape in enumerate(shapes):
                    operation = make_normalised_operation(shape, channels * inputs, channels * outputs, stride)
                    place = Place(source, target, choice)
                    if isinstance(operation, SharpSepConv):
                        together = self._convolutions.setdefault((source, shape.kernel, shape.dilation), [])
                        together.append(Placed(place, operation))
                        operation.first_depthwise = together[0].operation.first_depthwise
                    else:
                        self._pools.setdefault((source, shape.kernel), []).append(Placed(place, operation))
                    self.operations[operation_name(inputs, outputs, shape)] = operation

    def forward(self, maps: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
        """Maps [B, C, H, W] of every width and weights [widths in, widths out, choices] to maps of every width."""
        each: list[list[list[Tensor]]] = [
            [list(row.unbind()) for row in source.unbind()] for source in weights.unbind()
        ]
        terms: list[list[Tensor]] = [[] for _ in maps]
        rectified = [F.relu(x) for x in maps]
        for (source, _, _), convolutions in self._convolutions.items():
            scales = [each[place.source][place.target][place.choice] for place, _ in convolutions]
            outputs = _convolve([operation for _, operation in convolutions], rectified[source], scales)
            for (place, _), output in zip(convolutions, outputs, strict=True):
                terms[place.target].append(output)
        for (source, _), pools in self._pools.items():
            scales = [each[place.source][place.target][place.choice] for place, _ in pools]
            for (place, _), output in zip(
                pools, _pool([operation for _, operation in pools], maps[source], scales), strict=True
            ):
                terms[place.target].append(output)
        # Convolutions came first, and nothing else needs their outputs; those of pools are parts of one tensor.
        add = Tensor.add_ if self._convolutions else torch.add
        return [reduce(add, parts) for parts in terms]


def _convolve(operations: Sequence[SharpSepConv], rectified: Tensor, scales: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of operations that share their first depthwise convolution, times their scales."""
    pointwise = torch.cat([operation.first_pointwise.weight for operation in operations])
    depthwise = [operation.second_depthwise for operation in operations]
    middle = F.conv2d(_spread(operations[0].first_depthwise, rectified), pointwise)
    middle = F.conv2d(
        F.relu(_batch_norm(middle)),
        torch.cat([convolution.weight for convolution in depthwise]),
        padding=depthwise[0].padding,
        groups=middle.shape[1],
    )
    parts = torch.split(middle, [convolution.out_channels for convolution in depthwise], 1)
    return [
        scaled_batch_norm(operation.norm, operation.second_pointwise(part), scale)
        for operation, part, scale in zip(operations, parts, scales, strict=True)
    ]


def _spread(convolution: nn.Conv2d, rectified: Tensor) -> Tensor:
    """The first depthwise convolution, where it is dilated on the phases of its input."""
    if has_phases(convolution, rectified):
        return join_phases(depthwise_of_phases(convolution, split_phases(rectified)))
    spread: Tensor = convolution(rectified)
    return spread


def _pool(
    operations: Sequence[NormalisedPool | ResizablePool], x: Tensor, scales: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs of pools of one input, times their scales; all other widths by one pointwise convolution."""
    pooled = operations[0].pool(x)
    resized = [operation for operation in operations if isinstance(operation, ResizablePool)]
    widths = [operation.norm.num_features for operation in resized]
    parts: Iterator[Tensor] = iter(())
    if resized:
        spread = [
            scale.repeat(operation.norm.num_features)
            for operation, scale in zip(operations, scales, strict=True)
            if isinstance(operation, ResizablePool)
        ]
        made = F.conv2d(pooled, torch.cat([operation.pointwise.weight for operation in resized]))
        parts = iter(torch.split(_batch_norm(made, torch.cat(spread)), widths, 1))
    return [
        next(parts) if isinstance(operation, ResizablePool) else scaled_batch_norm(operation.norm, pooled, scale)
        for operation, scale in zip(operations, scales, strict=True)
    ]


def _batch_norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """By the statistics of the batch, then times a scale [C], which must be laid out in memory."""
    return F.batch_norm(x, None, None, scale, None, training=True)
