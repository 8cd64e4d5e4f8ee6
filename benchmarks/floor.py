"""What scoring NAS-Bench-201 takes at least here: multiply-adds at the processor's peak, bytes at memory's.

    python -m benchmarks.floor [--every 5]

Compiles and runs floor.cpp on one core, counts what the convolutions of distinct cells multiply and what the
native backend's passes read and write, and prints the rates that all cores would reach if that were all there is.
Needs a C++ compiler; leave the machine alone.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.backends import native
from harness.backends.native.lowering import lower
from harness.backends.native.program import uses_winograd
from harness.machine import cores
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.plan import Convolution, Plan, buffer_shapes

BATCH = 128
SIZES = ("256 KB", "8 MB", "512 MB")
"""What floor.cpp reads over and over."""

ENGINE = Path(native.__file__).parent / "engine"

WINOGRAD_SHARE = 36 / 144
"""Products of a tile by F(4x4, 3x3), of those that a direct convolution takes."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=5, help="one of so many distinct cells is counted")
    options = parser.parse_args()
    peak, *reads = measured()
    print(f"one core: {peak} GFLOP/s in registers")
    print(f"it reads {', '.join(map(str, reads))} GB/s of {', '.join(SIZES)}")
    space, config = NASBench201(), NASBench201Config()
    distinct = sorted({space.canonical(cell, "live") for cell in space})[:: options.every]
    counts = [work(space.plan(cell, config, "live")) for cell in distinct]
    direct, winograd, moved = (sum(each) / len(each) for each in zip(*counts, strict=True))
    print("| a cell at batch 128 | takes | cells/min |")
    print("| --- | ---: | ---: |")
    for name, products in (("direct convolution", direct), ("Winograd F(4x4, 3x3), transforms free", winograd)):
        rate = 60 * cores() * peak * 1e9 / (2 * products * BATCH)
        print(f"| {name} | {products * BATCH / 1e9:.2f} G multiply-adds | {rate:,.0f} |")
    rate = 60 * cores() * reads[1] * 1e9 / moved
    print(f"| feature maps, at the speed of {SIZES[1]} | {moved / 1e6:.0f} MB | {rate:,.0f} |")


def measured() -> list[int]:
    """GFLOP/s and GB/s as floor.cpp prints them, on one core."""
    source = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        compiler = os.environ.get("CXX", "c++")
        options = ["-std=c++17", "-O3", "-march=native", "-Wno-psabi", f"-I{ENGINE}"]
        subprocess.run([compiler, *options, str(source), "-o", str(program)], check=True)
        printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


def work(plan: Plan) -> tuple[float, float, float]:
    """Multiply-adds an image, direct and by Winograd where the native backend takes it, and bytes a batch."""
    shapes = dict(buffer_shapes(plan))
    direct = winograd = 0.0
    for step in plan.steps:
        if isinstance(step, Convolution):
            outputs, inputs, kernel, _ = step.shape
            _, height, width = shapes[step.output]
            products = outputs * inputs * kernel * kernel * height * width
            direct += products
            winograd += products * (WINOGRAD_SHARE if uses_winograd(step, *shapes[step.source][1:]) else 1)
    return direct, winograd, 4.0 * BATCH * sum(math.prod(shapes[name]) for name in maps_moved(plan))


def maps_moved(plan: Plan) -> Iterator[str]:
    """Feature maps that the native backend reads or writes, each time that it does."""
    for each in lower(plan):
        yield from (reading.map for reading in each.readings)
        yield from (convolution.output for convolution in each.convolutions)
        if each.output:
            yield each.output


if __name__ == "__main__":
    main()
