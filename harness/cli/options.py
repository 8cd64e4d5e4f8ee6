"""Options that several commands share, and the two ways they print."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Space = Annotated[str, typer.Option(help="Search space, or python:MODULE:FACTORY; `tfnas spaces` lists them.")]
Scorers = Annotated[list[str], typer.Option("--scorer", help="Scorer, repeatable; `tfnas scorers` lists them.")]
DatasetName = Annotated[str, typer.Option("--dataset", help="Data set; `tfnas datasets` lists them.")]
AnyDataset = Annotated[
    str | None, typer.Option("--dataset", help="Data set; `tfnas datasets` lists them. Default: digits, or text.")
]
DataDir = Annotated[Path, typer.Option(help="Folder of the official data sets.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 or CIFAR-100 into --data-dir.")]
ImageSize = Annotated[int | None, typer.Option(help="Resize the images to this height and width.")]
BatchSize = Annotated[int, typer.Option(help="Images that a score looks at.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of sample, batch and weights.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Backend = Annotated[str, typer.Option(help="native (compiled), torch, or auto.")]
Sample = Annotated[int | None, typer.Option(help="Draw so many different architectures.")]
Everything = Annotated[bool, typer.Option("--all", help="Every architecture of the space.")]
Architectures = Annotated[Path | None, typer.Option(help="File of architectures, one a line; - reads stdin.")]
Channels = Annotated[int | None, typer.Option(help="Channels of the first stage (the space's C).")]
Cells = Annotated[int | None, typer.Option(help="Cells per stage (the space's N).")]
Hidden = Annotated[int | None, typer.Option(help="Units of a language model (its width).")]
Dropout = Annotated[
    float | None, typer.Option(help="One rate of dropout in language models, instead of the recipe's many.")
]
StorePath = Annotated[Path, typer.Option("--store", help="Results file (SQLite).")]
Processes = Annotated[int | None, typer.Option(min=1, help="Worker processes; by default what the machine has.")]
Engine = Annotated[str, typer.Option(help="Where workers run: local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster as HOST:PORT, or auto; by default one is started here.")
]
WorkerCpus = Annotated[float, typer.Option(help="CPU cores that a worker on Ray takes of its node.")]
WorkerGpus = Annotated[float, typer.Option(help="GPUs that a worker on Ray takes of its node, or a share of one.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")]
TruthName = Annotated[str, typer.Option("--truth", help="Table of accuracies, or trained: those in the store.")]
Column = Annotated[
    str | None, typer.Option(help="Column of the truth; trainings: test_accuracy, validation_accuracy.")
]
Baselines = Annotated[
    list[str], typer.Option("--baseline", help="Column of the truth to rank by beside the scores, repeatable.")
]
DropMissing = Annotated[bool, typer.Option("--drop-missing", help="Leave out architectures the truth lacks.")]
Unscored = Annotated[str, typer.Option(help="drop: leave unscored architectures out; last: rank them last.")]
TopK = Annotated[int, typer.Option(min=1, help="k of the top-k figures.")]
Out = Annotated[Path, typer.Option(help="Folder of the report.")]

DEFAULT_STORE = Path("tfnas.sqlite")
DEFAULT_REPORT = Path("tfnas-report")
DEFAULT_DATA = Path("data")


def command_line() -> str:
    """The command as the user gave it."""
    return shlex.join(["tfnas", *sys.argv[1:]])


def print_json(document: Any) -> None:
    """One JSON document on stdout; numbers that JSON lacks become null."""
    print(json.dumps(_finite(document), indent=2))


def say(line: str) -> None:
    """A line for the user, on stderr, so that stdout stays clean for pipes."""
    print(line, file=sys.stderr)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
