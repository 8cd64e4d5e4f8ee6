"""Lay a lowered plan out in memory and write it down as the flat arrays that the engine reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.backends.native import library
from harness.backends.native.lowering import Pass, Reading, kept_map, lower
from spaces.plan import IMAGES, Convolution, Plan

LANES = 16
"""Images that lie side by side in memory; the last group of a batch is filled up."""

SKEW = 5 * LANES
"""Floats between maps, so that equal places of two maps do not meet in the same cache set."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Program:
    """What the engine runs, and where it leaves the kept maps: offset in floats of each."""

    record: library.Program
    kept: dict[str, int]


def uses_winograd(convolution: Convolution, height: int, width: int) -> bool:
    """Whether the engine computes a convolution of a height x width map by tiles of 4x4 outputs."""
    return convolution.shape[2] == 3 and convolution.stride == 1 and height % 4 == 0 and width % 4 == 0


def assemble(
    plan: Plan,
    shapes: dict[str, Shape],
    batch: int,
    weights: Callable[[Convolution, bool], int],
    kept: Sequence[str] = (),
) -> Program:
    """Program of a plan for `batch` images.

    shapes: of every buffer of the plan; weights(convolution, winograd) gives the address of its packed
    weights, which must outlive the program.
    """
    passes = lower(plan, kept)
    shapes = shapes | {kept_map(name): shapes[name] for name in kept}
    groups = -(-batch // LANES)
    floats = {
        name: groups * LANES * channels * height * width for name, (channels, height, width) in shapes.items()
    }
    offsets, arena_floats = _arena(passes, shapes, floats, frozenset(map(kept_map, kept)))
    affines, affine_floats = _affines(passes, shapes)

    terms: list[library.Term] = []
    convolutions: list[library.Convolution] = []
    records: list[library.Pass] = []
    for each in passes:
        channels, height, width = shapes[each.value]
        term_begin, convolution_begin = len(terms), len(convolutions)
        terms += [_term(reading, shapes, offsets, affines) for reading in each.readings]
        for convolution in each.convolutions:
            winograd = uses_winograd(convolution, height, width)
            convolutions.append(
                library.Convolution(
                    offsets[convolution.output],
                    affines.get(convolution.output, -1),
                    weights(convolution, winograd),
                    *shapes[convolution.output],
                    convolution.shape[2],
                    convolution.stride,
                    winograd,
                )
            )
        records.append(
            library.Pass(
                offsets[each.output] if each.output else -1,
                affines.get(each.output, -1) if each.output else -1,
                channels,
                height,
                width,
                each.rectify,
                each.multiplicity,
                term_begin,
                len(terms),
                convolution_begin,
                len(convolutions),
            )
        )
    record = library.Program(
        (library.Pass * len(records))(*records),
        (library.Term * len(terms))(*terms),
        (library.Convolution * len(convolutions))(*convolutions),
        len(records),
        arena_floats,
        affine_floats,
        batch,
        *plan.input_shape,
    )
    return Program(record, {name: offsets[kept_map(name)] for name in kept})


def _term(
    reading: Reading, shapes: dict[str, Shape], offsets: dict[str, int], affines: dict[str, int]
) -> library.Term:
    _, height, width = shapes[reading.map]
    pool = reading.pool
    return library.Term(
        offsets[reading.map],
        affines[reading.map] if reading.normalised else -1,
        height,
        width,
        *((pool.kernel, pool.stride, pool.padding) if pool else (0, 0, 0)),
    )


def _written(each: Pass) -> Iterator[str]:
    """Maps that a pass writes."""
    if each.output:
        yield each.output
    for convolution in each.convolutions:
        yield convolution.output


def _affines(passes: Sequence[Pass], shapes: dict[str, Shape]) -> tuple[dict[str, int], int]:
    """Offset of the scale and shift of each map that anyone reads normalised, and the floats of all of them."""
    offsets: dict[str, int] = {}
    end = 0
    for each in passes:
        for reading in each.readings:
            if reading.normalised and reading.map not in offsets:
                offsets[reading.map] = end
                end += 2 * shapes[reading.map][0]
    return offsets, end


def _arena(
    passes: Sequence[Pass], shapes: dict[str, Shape], floats: dict[str, int], kept: frozenset[str]
) -> tuple[dict[str, int], int]:
    """Offset of every map and the floats of the arena; maps whose lives do not overlap share memory.

    A map is written over one that the same pass reads for the last time, where that can be: its memory is in
    cache then.
    """
    last_uses = {reading.map: index for index, each in enumerate(passes) for reading in each.readings}
    offsets = {IMAGES: 0}
    live = [IMAGES]
    end = floats[IMAGES]
    for index, each in enumerate(passes):
        ending = [name for name in live if name not in kept and last_uses.get(name, -1) <= index]
        for name in _written(each):
            for old in ending:
                if shapes[old] == shapes[name] and _can_replace(each, name, old):
                    ending.remove(old)
                    live.remove(old)
                    offsets[name] = offsets[old]
                    break
            else:
                offsets[name] = _first_gap([(offsets[other], floats[other]) for other in live], floats[name])
            live.append(name)
            end = max(end, offsets[name] + floats[name])
        live = [name for name in live if name in kept or last_uses.get(name, -1) > index]
    return offsets, end


def _can_replace(each: Pass, new: str, old: str) -> bool:
    """Whether a pass has always read a row of its term `old` before it writes that row of `new`.

    The value is written as it is made; convolutions of a strip run when the row after it has been made.
    """
    pools = [reading.pool for reading in each.readings if reading.map == old]
    if new == each.output:
        return not any(pools)
    return all(pool is None or (pool.stride == 1 and pool.padding <= 1) for pool in pools)


def _first_gap(taken: list[tuple[int, int]], size: int) -> int:
    """Lowest offset where `size` floats fit between blocks (offset, size) that are taken."""
    start = 0
    for offset, floats in sorted(taken):
        if start + size <= offset:
            break
        start = max(start, offset + floats + SKEW)
    return start
