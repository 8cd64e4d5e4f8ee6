"""Lower a plan to passes: each reads a few stored maps and feeds all that one value is needed for.

A convolution's output is stored as it comes; batch norm and average pooling are done by whoever reads it. So the
value of a plan's buffer is a sum of such readings, made once, row by row, for all its convolutions and codes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Step, Sum, sources

CHANNEL_BLOCK = 4
"""Output channels that the engine computes at a time."""

KERNELS, STRIDES = (1, 3), (1, 2)


@dataclass(frozen=True)
class Reading:
    """A stored map as a term: normalised by its own statistics, then pooled, where asked for."""

    map: str
    normalised: bool = False
    pool: AveragePool | None = None


@dataclass(frozen=True)
class Pass:
    """value = sum of readings, stored as `output` where that is named.

    `multiplicity` ReLUs count its signs; convolutions read it, all of them rectified or none.
    """

    value: str
    readings: tuple[Reading, ...]
    output: str | None = None
    multiplicity: int = 0
    rectify: bool = False
    convolutions: tuple[Convolution, ...] = ()


def unsupported(plan: Plan) -> str | None:
    """Why the engine cannot run a plan, in one line; None where it can."""
    for step in plan.steps:
        if isinstance(step, Convolution):
            outputs, _, height, width = step.shape
            if height != width or height not in KERNELS:
                return f"convolution {step.output} has a kernel of {height}x{width}; 1x1 and 3x3 are compiled"
            if step.stride not in STRIDES:
                return f"convolution {step.output} has stride {step.stride}; 1 and 2 are compiled"
            if outputs % CHANNEL_BLOCK:
                return f"convolution {step.output} has {outputs} output channels; multiples of 4 are compiled"
    return None


def checked_shapes(plan: Plan) -> dict[str, tuple[int, int, int]]:
    """[C, H, W] of every buffer.

    Raises:
        ValueError: a step reads a buffer that is not there yet, writes one again, or does not fit what it reads.
    """
    if min(plan.input_shape) < 1:
        raise ValueError(f"images have shape {plan.input_shape}; expected at least 1 in each place")
    shapes = {IMAGES: plan.input_shape}
    for step in plan.steps:
        for name in sources(step):
            if name not in shapes:
                raise ValueError(f"a {type(step).__name__} reads {name!r} before it is written")
        if isinstance(step, ReLUCode):
            if step.multiplicity < 1:
                raise ValueError(f"the code of {step.source!r} has multiplicity {step.multiplicity}; at least 1")
        elif step.output in shapes:
            raise ValueError(f"buffer {step.output!r} is written twice")
        else:
            shapes[step.output] = _output_shape(step, [shapes[name] for name in sources(step)])
    return shapes


def _output_shape(
    step: Convolution | AveragePool | Sum | BatchNorm, inputs: list[tuple[int, int, int]]
) -> tuple[int, int, int]:
    if not inputs:
        raise ValueError("a Sum has no terms")
    channels, height, width = inputs[0]
    match step:
        case Convolution():
            if step.shape[1] != channels:
                raise ValueError(
                    f"{step.output!r} convolves {step.shape[1]} channels; {step.source!r} has {channels}"
                )
            kernel, padding, channels = step.shape[2], step.shape[2] // 2, step.shape[0]
        case AveragePool():
            if step.kernel < 1 or step.stride < 1 or not 0 <= 2 * step.padding <= step.kernel:
                raise ValueError(
                    f"pool {step.output!r} needs kernel and stride of 1 or more, padding to half a kernel"
                )
            kernel, padding = step.kernel, step.padding
        case Sum() | BatchNorm():
            if any(shape != inputs[0] for shape in inputs):
                raise ValueError(f"{step.output!r} adds shapes {', '.join(map(str, inputs))}")
            return inputs[0]
    if min(height, width) + 2 * padding < kernel:
        raise ValueError(f"{step.output!r} has a window of {kernel} on a map of {height}x{width}")
    return (
        channels,
        (height + 2 * padding - kernel) // step.stride + 1,
        (width + 2 * padding - kernel) // step.stride + 1,
    )


def lower(plan: Plan, kept: Iterable[str] = ()) -> list[Pass]:
    """Passes in order. The values of `kept` buffers end up stored under kept_map(name)."""
    lowering = _Lowering(plan, set(kept))
    for step in plan.steps:
        lowering.add(step)
    for name in kept:
        lowering.passes.append(Pass(name, lowering.readings[name], output=kept_map(name)))
    return lowering.passes


def kept_map(name: str) -> str:
    """Name of the map that holds a kept buffer's value when the run is over."""
    return f"{name} (kept)"


class _Lowering:
    def __init__(self, plan: Plan, kept: set[str]) -> None:
        self.passes: list[Pass] = []
        self.readings: dict[str, tuple[Reading, ...]] = {IMAGES: (Reading(IMAGES),)}
        self._convolutions: dict[tuple[str, bool], list[Convolution]] = defaultdict(list)
        self._multiplicity: dict[str, int] = defaultdict(int)
        self._stored = kept
        self._done: set[str] = set()
        for step in plan.steps:
            match step:
                case Convolution():
                    self._convolutions[step.source, step.rectify].append(step)
                case ReLUCode():
                    self._multiplicity[step.source] += step.multiplicity
                case _:
                    self._stored.update(sources(step))

    def add(self, step: Step) -> None:
        """Append the passes that a step needs and that are not there yet."""
        match step:
            case Convolution() | ReLUCode():
                self._feed(step.source)
            case Sum():
                self.readings[step.output] = tuple(self._reading(term) for term in step.terms)
                self._feed(step.output, step.output if step.output in self._stored else None)
            case AveragePool():
                reading = self._reading(step.source)
                if reading.pool:
                    reading = self._store(step.source)
                self.readings[step.output] = (Reading(reading.map, reading.normalised, step),)
            case BatchNorm():
                reading = self._reading(step.source)
                if reading != Reading(step.source) or step.source == IMAGES:
                    self.passes.append(Pass(step.output, (reading,), output=step.output))
                    reading = Reading(step.output)
                self.readings[step.output] = (Reading(reading.map, normalised=True),)

    def _reading(self, name: str) -> Reading:
        """How a term reads a buffer: sums that are terms are stored, so one reading is all of it."""
        (reading,) = self.readings[name]
        return reading

    def _feed(self, value: str, output: str | None = None) -> None:
        """Passes that make `value` for its convolutions and codes, and store it as `output`."""
        if value in self._done:
            return
        self._done.add(value)
        multiplicity = self._multiplicity[value]
        for rectify in (True, False):
            convolutions = tuple(self._convolutions[value, rectify])
            if convolutions or (rectify and (output or multiplicity)):
                self.passes.append(Pass(value, self.readings[value], output, multiplicity, rectify, convolutions))
                if output:
                    self.readings[value] = (Reading(output),)
                output, multiplicity = None, 0
            for convolution in convolutions:
                self.readings[convolution.output] = (Reading(convolution.output, convolution.normalise),)

    def _store(self, name: str) -> Reading:
        """Store what has been a reading so far."""
        self.passes.append(Pass(name, self.readings[name], output=name))
        self.readings[name] = (Reading(name),)
        return Reading(name)
