"""Compile the native engine once for each processor level; without a compiler tfnas installs without it.

Contraction is off: products and sums are fused where the source says so, whatever the compiler would choose.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("harness/backends/native/engine")
OPTIONS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi"]
LEVELS = {1: [], 3: ["-march=x86-64-v3"], 4: ["-march=x86-64-v4"]}

setup(
    ext_modules=[
        Extension(
            f"harness.backends.native.engine_level{level}",
            sources=sorted(map(str, FOLDER.glob("*.cpp"))),
            depends=sorted(map(str, FOLDER.glob("*.h"))),
            language="c++",
            extra_compile_args=[*OPTIONS, *flags],
            optional=True,
        )
        for level, flags in LEVELS.items()
        if level == 1 or platform.machine() in ("x86_64", "AMD64")
    ]
)
