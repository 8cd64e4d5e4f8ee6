"""A path through a HyperCuboid: the architecture, its text, and the axes it takes values of at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeVar

from spaces.errors import InputError

SEP_CONV, MAX_POOL = "sep_conv", "max_pool"
PRIMITIVES = (SEP_CONV, MAX_POOL)

Value = str | int
V = TypeVar("V", str, int, Value)
Choice = tuple[Value, ...]
"""A value of every axis, in the order of the axes."""


class StepShape(NamedTuple):
    """The hyperparameters of a step beside its widths, any of which can be an axis of a HyperCuboid.

    `primitive` is a SharpSepConv or a maximum pooling, `kernel` is odd. A SharpSepConv alone has a `dilation`, of
    its first half, and `middle`, the channels between its halves as a multiple of its output's. A further
    hyperparameter is a field here and its use in `spaces.hypercuboid.operations`.
    """

    primitive: str = SEP_CONV
    kernel: int = 3
    dilation: int = 1
    middle: int = 1

    @property
    def name(self) -> str:
        """Name in those of parameters."""
        return f"{self.primitive}-k{self.kernel}-d{self.dilation}-m{self.middle}"


@dataclass(frozen=True)
class Axis:
    """A hyperparameter, by the name of a field of `StepShape`, and the values a step can take.

    Raises:
        InputError: no such hyperparameter, no values, twice the same, or one that it cannot take.
    """

    name: str
    values: Choice

    def __post_init__(self) -> None:
        if self.name not in StepShape._fields:
            raise InputError(
                f"unknown axis {self.name!r} of a HyperCuboid; allowed: {', '.join(StepShape._fields)}"
            )
        if not self.values or len(set(self.values)) < len(self.values):
            raise InputError(f"axis {self.name} of a HyperCuboid must have different values, not {self.values}")
        for value in self.values:
            if not _fits(self.name, value):
                allowed = {"primitive": " or ".join(PRIMITIVES), "kernel": "an odd number from 1"}
                raise InputError(
                    f"axis {self.name} of a HyperCuboid takes {allowed.get(self.name, 'a number from 1')}, "
                    f"not {value!r}"
                )


def _fits(name: str, value: Value) -> bool:
    if name == "primitive":
        return value in PRIMITIVES
    return type(value) is int and value >= 1 and (name != "kernel" or value % 2 == 1)


class Step(NamedTuple):
    """A value of every axis, and the width that comes out as a multiple of the smallest."""

    choice: Choice
    width: int


@dataclass(frozen=True, order=True)
class Path:
    """The width after the stem, then every step; as text `1|sep_conv|2|max_pool|4`, values joined by commas."""

    width: int
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        parts = [str(self.width)]
        for choice, width in self.steps:
            parts += [",".join(map(str, choice)), str(width)]
        return "|".join(parts)

    def widths(self) -> list[int]:
        """Multiples of the smallest width after the stem and after every step."""
        return [self.width, *(step.width for step in self.steps)]


@dataclass(frozen=True)
class Grid:
    """What a HyperCuboid spans: widths, axes, and steps, of which every second halves the image.

    `widths` are multiples of the smallest. Alphas have the shape [2 strides, steps / 2, widths, widths, axes...].

    Raises:
        InputError: widths that are not different numbers from 1, an axis named twice, or no steps.
    """

    widths: tuple[int, ...]
    axes: tuple[Axis, ...]
    pairs: int

    def __post_init__(self) -> None:
        if not self.widths or len(set(self.widths)) < len(self.widths) or min(self.widths) < 1:
            raise InputError(f"widths of a HyperCuboid must be different numbers from 1, not {self.widths}")
        names = [axis.name for axis in self.axes]
        if not names or len(set(names)) < len(names):
            raise InputError(f"a HyperCuboid needs one or more axes, each once, not {', '.join(names) or 'none'}")
        if self.pairs < 1:
            raise InputError(f"pairs of steps of a HyperCuboid must be at least 1, not {self.pairs}")

    @property
    def steps(self) -> int:
        """Steps of a path."""
        return 2 * self.pairs

    @property
    def choices(self) -> list[Choice]:
        """Every combination of values, the last axis fastest: the columns of the alphas."""
        return list(product(*(axis.values for axis in self.axes)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the alphas."""
        widths = len(self.widths)
        return (2, self.pairs, widths, widths, *(len(axis.values) for axis in self.axes))

    def step_shape(self, choice: Choice) -> StepShape:
        """The hyperparameters of a choice; those that are no axis have their defaults."""
        named: Mapping[str, Value] = {axis.name: value for axis, value in zip(self.axes, choice, strict=True)}
        return StepShape(**named)  # type: ignore[arg-type]

    def canonical(self, choice: Choice) -> Choice:
        """The first choice that computes the same: a pool has no dilation and no middle."""
        if self.step_shape(choice).primitive == SEP_CONV:
            return choice
        return tuple(
            axis.values[0] if axis.name in ("dilation", "middle") else value
            for axis, value in zip(self.axes, choice, strict=True)
        )

    def paths(self) -> Iterator[Path]:
        """All paths."""
        steps = [Step(choice, width) for choice in self.choices for width in self.widths]
        for width in self.widths:
            for taken in product(steps, repeat=self.steps):
                yield Path(width, taken)

    def neighbours(self, path: Path) -> Iterator[Path]:
        """Paths with another width in one place, or another value of one axis in one step."""
        for width in self.widths:
            if width != path.width:
                yield Path(width, path.steps)
        for place, step in enumerate(path.steps):
            for changed in self._changed_steps(step):
                yield Path(path.width, (*path.steps[:place], changed, *path.steps[place + 1 :]))

    def _changed_steps(self, step: Step) -> Iterator[Step]:
        for width in self.widths:
            if width != step.width:
                yield Step(step.choice, width)
        for place, axis in enumerate(self.axes):
            for value in axis.values:
                if value != step.choice[place]:
                    yield Step((*step.choice[:place], value, *step.choice[place + 1 :]), step.width)

    def parse(self, text: str) -> Path:
        """Path of this text. Raises `InputError` naming the part that is wrong, and what is allowed there."""
        parts = text.strip().split("|")
        expected = 2 * self.steps + 1
        if len(parts) != expected:
            raise InputError(
                f"path {text.strip()!r} has {len(parts)} parts; it needs {expected}: a width, then "
                f"{','.join(axis.name for axis in self.axes)} and a width for each of {self.steps} steps"
            )
        widths = [self._width(part, step) for step, part in enumerate(parts[::2])]
        choices = [self._choice(part, step) for step, part in enumerate(parts[1::2], start=1)]
        return Path(widths[0], tuple(map(Step, choices, widths[1:])))

    def _width(self, text: str, step: int) -> int:
        where = f"after step {step}" if step else "after the stem"
        return _chosen(self.widths, text, f"width {text!r} of a path {where}")

    def _choice(self, text: str, step: int) -> Choice:
        values = text.split(",")
        if len(values) != len(self.axes):
            names = ",".join(axis.name for axis in self.axes)
            raise InputError(f"step {step} of a path is {text!r}; expected {names}")
        return tuple(
            _chosen(axis.values, value, f"{axis.name} {value!r} of step {step} of a path")
            for axis, value in zip(self.axes, values, strict=True)
        )


def _chosen(allowed: Sequence[V], text: str, what: str) -> V:
    found = [value for value in allowed if str(value) == text.strip()]
    if not found:
        raise InputError(f"{what} is not allowed; allowed: {', '.join(map(str, allowed))}")
    return found[0]
