"""Run plans on CUDA: torch's convolutions, and Triton kernels for what lies between them."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from harness.backends.kernel_matrix import KernelMatrix
from harness.backends.torch_backend import EPSILON, ComputedStep, TorchBackend, average_pool, total, walk
from harness.backends.triton_kernels import Form, batch_statistics, differing_bits, finish
from spaces.plan import (
    IMAGES,
    AveragePool,
    BatchNorm,
    Convolution,
    Plan,
    ReLUCode,
    Step,
    Sum,
    buffer_shapes,
    sources,
)

Forms = dict[Form, Tensor]


class TritonBackend(TorchBackend):
    """Finishes each feature map in one pass: normalised, rectified and its signs packed, as its readers want it.

    Last digits differ from the torch backend's. `run` is the torch backend's own.
    """

    name = "triton"

    def count(self, plan: Plan, images: Tensor) -> KernelMatrix:
        """The kernel of the plan's codes, under torch's settings as they are; does not wait for the device.

        All codes of one multiplicity are compared at once: their words are 1/32 of the feature maps.
        """
        wanted = wanted_forms(plan)
        matrix = KernelMatrix(images.shape[0])
        words: dict[int, list[Tensor]] = defaultdict(list)
        units: dict[int, int] = defaultdict(int)
        shapes = dict(buffer_shapes(plan))

        def compute(step: ComputedStep, buffers: dict[str, Forms]) -> Forms:
            x, normalise = self._unfinished(step, buffers)
            return finish(x, batch_statistics(x, EPSILON) if normalise else None, wanted[step.output])

        def read(forms: Forms, step: ReLUCode) -> None:
            words[step.multiplicity].append(forms["words"])
            units[step.multiplicity] += math.prod(shapes[step.source])

        walk(plan, finish(self._checked(plan, images), None, wanted[IMAGES]), compute, read)
        for multiplicity, parts in words.items():
            matrix.add_distances(differing_bits(torch.cat(parts)), units[multiplicity], multiplicity)
        matrix.add_off(plan.off_units)
        return matrix

    def _unfinished(self, step: ComputedStep, buffers: dict[str, Forms]) -> tuple[Tensor, bool]:
        """What the step computes, and whether it is still to be normalised."""
        match step:
            case Convolution():
                source = buffers[step.source]
                return self._convolve(step, source[_form(step)]), step.normalise
            case AveragePool():
                return average_pool(step, buffers[step.source]["plain"]), False
            case Sum():
                return total(buffers[term]["plain"] for term in step.terms), False
            case BatchNorm():
                return buffers[step.source]["plain"], True


def wanted_forms(plan: Plan) -> dict[str, set[Form]]:
    """What the steps read of each buffer; nothing of one that no step reads."""
    wanted: dict[str, set[Form]] = defaultdict(set)
    for step in plan.steps:
        for name in sources(step):
            wanted[name].add(_form(step))
    return wanted


def _form(step: Step) -> Form:
    if isinstance(step, ReLUCode):
        return "words"
    return "rectified" if isinstance(step, Convolution) and step.rectify else "plain"
