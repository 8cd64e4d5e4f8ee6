"""Ground truth of NATS-Bench, topology search space, from its official folder of pickles (`...-simple`).

The package nats_bench would unpickle whatever the files hold, which can run code. Here a restricted unpickler
reads them, and the package is given the dictionaries. The columns are those of `harness.truth.nasbench201`.
"""

import bz2
from pathlib import Path
from typing import Any

import pandas as pd

from harness.truth.nasbench201 import SafeUnpickler, benchmark_package, cell_frame, cell_row, unreadable
from spaces.errors import InputError

META_FILE = "meta.pickle.pbz2"


def read_nats_bench(source: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Frame and notes of a folder such as `NATS-tss-v1_0-3ffb9-simple`, one file at a time.

    Raises:
        InputError: the package nats-bench is missing, the folder is not of the topology space, or a file is
            damaged or holds something else.
    """
    results_type = benchmark_package("nats_bench").ArchResults
    meta = source / META_FILE
    if not meta.is_file():
        raise InputError(f"truth: {source} is not a NATS-Bench folder; expected {META_FILE} in it")
    architectures = _architectures(meta)
    files = {index: _file(source, index) for index in range(len(architectures))}
    rows = []
    for index, file in files.items():
        if file is None:
            continue
        try:
            rows.append(cell_row(architectures[index], _unpickle(file), results_type))
        except Exception as error:
            raise InputError(unreadable(file, "a NATS-Bench record", error)) from error
    frame, notes = cell_frame(source, rows)
    if missing := len(architectures) - len(rows):
        notes = (*notes, f"{missing} of {len(architectures)} architectures have no file in the folder")
    return frame, notes


def _architectures(meta: Path) -> list[str]:
    try:
        architectures = list(_unpickle(meta)["meta_archs"])
    except Exception as error:
        raise InputError(unreadable(meta, "NATS-Bench's list of architectures", error)) from error
    if not all(isinstance(name, str) and name.startswith("|") for name in architectures):
        raise InputError(f"truth: {meta} is not of the topology search space (tss); the size space has no cells")
    return architectures


def _file(folder: Path, index: int) -> Path | None:
    """Record of an architecture, its number written with six digits or plain; None where there is none."""
    candidates = (folder / f"{index:06d}.pickle.pbz2", folder / f"{index}.pickle.pbz2")
    return next((file for file in candidates if file.is_file()), None)


def _unpickle(file: Path) -> Any:
    with bz2.open(file) as stream:
        return SafeUnpickler(stream).load()
