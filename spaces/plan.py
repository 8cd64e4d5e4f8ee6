"""A plan: the few steps that compute every ReLU input of one architecture, as data.

Backends run plans and know no search space; spaces write plans and know no backend. Buffers are named;
each is written once. `images` names the input batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

IMAGES = "images"


@dataclass(frozen=True)
class Convolution:
    """output = conv(source), of relu(source) if `rectify`, then batch-normalised if `normalise`.

    Padding is kernel // 2; no bias. `weight` names the parameter, `shape` is [out, in, kernel, kernel].
    Batch norm takes the statistics of the batch; scale 1 and shift 0 as at initialisation.
    """

    output: str
    source: str
    weight: str
    shape: tuple[int, int, int, int]
    stride: int = 1
    rectify: bool = True
    normalise: bool = True


@dataclass(frozen=True)
class AveragePool:
    """output = mean over each window of source; pixels of the padding are not counted."""

    output: str
    source: str
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Sum:
    """output = terms added from left to right; a term may stand more than once."""

    output: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class BatchNorm:
    """output = source normalised by the statistics of the batch."""

    output: str
    source: str


@dataclass(frozen=True)
class ReLUCode:
    """`multiplicity` ReLUs read source: its signs are codes that count so many times."""

    source: str
    multiplicity: int


Step = Convolution | AveragePool | Sum | BatchNorm | ReLUCode


@dataclass(frozen=True)
class Plan:
    """Steps in order; `input_shape` is [C, H, W] of an image; `off_units` counts ReLU inputs that are always 0."""

    input_shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    off_units: int = 0

    def last_uses(self) -> dict[str, int]:
        """Index of the last step that reads each buffer, so that a backend can let go of it."""
        return {name: index for index, step in enumerate(self.steps) for name in sources(step)}


def sources(step: Step) -> tuple[str, ...]:
    """Buffers that a step reads."""
    return step.terms if isinstance(step, Sum) else (step.source,)


def buffer_shapes(plan: Plan) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Name and [C, H, W] of every buffer, the images first."""
    shapes = {IMAGES: plan.input_shape}
    yield IMAGES, plan.input_shape
    for step in plan.steps:
        if isinstance(step, ReLUCode):
            continue
        channels, height, width = shapes[sources(step)[0]]
        if isinstance(step, Convolution):
            padding = step.shape[2] // 2
            channels = step.shape[0]
            height = (height + 2 * padding - step.shape[2]) // step.stride + 1
            width = (width + 2 * padding - step.shape[3]) // step.stride + 1
        elif isinstance(step, AveragePool):
            height = (height + 2 * step.padding - step.kernel) // step.stride + 1
            width = (width + 2 * step.padding - step.kernel) // step.stride + 1
        shapes[step.output] = (channels, height, width)
        yield step.output, shapes[step.output]


def peak_floats(plan: Plan) -> int:
    """Most floats per image that live buffers hold at once, with two of the largest for work in flight."""
    sizes = {name: shape[0] * shape[1] * shape[2] for name, shape in buffer_shapes(plan)}
    last = plan.last_uses()
    held, peak = sizes[IMAGES], 0
    for index, step in enumerate(plan.steps):
        if not isinstance(step, ReLUCode):
            held += sizes[step.output]
        peak = max(peak, held)
        held -= sum(sizes[name] for name in set(sources(step)) if last[name] == index)
    return peak + 2 * max(sizes.values())
