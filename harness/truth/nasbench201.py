"""Ground truth of NAS-Bench-201 from its official file, read without running code that the file may carry.

The columns, one row per cell:

- `val_{dataset}_{epochs}ep`, `test_{dataset}_{epochs}ep`: accuracy in percent after the last epoch of the recipe
  of 12 or 200 epochs, mean over the seeds that exist; `n_...` is the number of seeds behind it. CIFAR-10 was
  trained twice: `val_cifar10` comes from networks trained on half of the training images (the benchmark's
  cifar10-valid, evaluated on the other half), `test_cifar10` from networks trained on all of them.
- `train_seconds_{training set}_{epochs}ep`: seconds of the whole training, mean over seeds; the training set is
  the benchmark's own name, so cifar10-valid (half) and cifar10 (all) stand beside each other.
- `params_{dataset}`, `flops_{dataset}`: counts as stored. Some stored counts belong to another network (NATS-Bench
  issue 36); where trials differ, seed 888 is right by the NATS-Bench package, so its count is taken.
"""

import codecs
import math
import pickle
import re
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pandas as pd

from spaces.errors import InputError

CLASSES = {"cifar10-valid": 10, "cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
"""Training sets by the benchmark's names, and their number of classes."""

EVALUATIONS = (
    ("val_cifar10", "cifar10-valid", "x-valid"),
    ("test_cifar10", "cifar10", "ori-test"),
    ("val_cifar100", "cifar100", "x-valid"),
    ("test_cifar100", "cifar100", "x-test"),
    ("val_ImageNet16-120", "ImageNet16-120", "x-valid"),
    ("test_ImageNet16-120", "ImageNet16-120", "x-test"),
)
"""Column, training set and evaluation set; `ori-test` of the last two data sets is validation and test in one."""

EPOCHS = ("12", "200")
"""The two training recipes; the name is also the number of epochs."""

TRUSTED_SEED = 888
TORCH_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MILLION = 1_000_000

_scalar = np.float64(0).__reduce__()[0]

SAFE_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.set": set,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": codecs.encode,
}
"""All that a benchmark file may name beside plain values; numpy 1 and 2 write their scalars under two names."""


class Trial(Protocol):
    """What is read of the packages' `ResultsCount`: one training with one seed. Counts are in millions."""

    params: float
    flop: float
    epochs: int
    train_times: Mapping[int, float] | None
    eval_acc1es: Mapping[str, float]


class Results(Protocol):
    """What is read of the packages' `ArchResults`: all trainings of one cell by one recipe."""

    arch_str: str
    dataset_seed: Mapping[str, list[int]]

    def query(self, dataset: str) -> dict[int, Trial]:
        """Trials by seed; `KeyError` where the training set is missing."""


class SafeUnpickler(pickle.Unpickler):
    """Unpickler that builds plain values and what `SAFE_GLOBALS` names, so a file can run no code of its own."""

    def find_class(self, module: str, name: str) -> Any:
        """Object of that name. Raises `pickle.UnpicklingError` where it is not allowed."""
        # Up to protocol 2 the built-in types stand under their Python 2 module.
        full_name = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full_name not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"GLOBAL {full_name} is not allowed")
        return SAFE_GLOBALS[full_name]


def read_nasbench201(source: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Frame and notes of `NAS-Bench-201-v1_0-e61699.pth` or `NAS-Bench-201-v1_1-096897.pth`.

    The file is one pickle of every epoch of every training, so all of it stands in memory once: about five times
    its size, 25 GB for version 1.1. Each cell is let go when its row is made. The NATS-Bench folder holds the same
    search space, one file a cell, and needs no such memory.

    Raises:
        InputError: the package nas-bench-201 is missing, or the file is damaged or holds something else.
    """
    results_type = benchmark_package("nas_201_api").ArchResults
    try:
        contents = _load(source)
        architectures, cells = contents["meta_archs"], contents["arch2infos"]
        rows = []
        for index in sorted(cells):
            cell = cells.pop(index)
            states = {"12": cell["less"], "200": cell["full"]}
            rows.append(cell_row(architectures[index], states, results_type))
    except Exception as error:
        raise InputError(unreadable(source, "a NAS-Bench-201 file", error)) from error
    return cell_frame(source, rows)


def _load(source: Path) -> Any:
    """Contents of a file of torch.save without tensors.

    `torch.load(weights_only=True)` is as safe, but its unpickler is written in Python and ten times slower, which
    is half an hour for the official file.
    """
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as stream:
                return SafeUnpickler(stream).load()
    with source.open("rb") as stream:
        if SafeUnpickler(stream).load() != TORCH_MAGIC_NUMBER:
            raise ValueError("not a file of torch.save")
        _protocol, _machine = SafeUnpickler(stream).load(), SafeUnpickler(stream).load()
        return SafeUnpickler(stream).load()


def benchmark_package(name: str) -> ModuleType:
    """Module of an official benchmark package. Raises `InputError` with the remedy where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f'truth: this format needs the package {name}; pip install "tfnas[truth]"') from error


def unreadable(source: Path, expected: str, error: Exception) -> str:
    """One line on why a benchmark file is refused: the type that it may not hold, else that it is damaged."""
    if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"truth: {source} is refused: it would load {refused[1]}, which {expected} never holds"
    return f"truth: {source} is damaged or is not {expected} ({type(error).__name__})"


def cell_row(architecture: str, states: Mapping[str, object], results_type: Any) -> dict[str, Any]:
    """Columns of one cell, and `foreign_count`: whether a trial stores another network's parameter count.

    Args:
        architecture: the official string.
        states: by epochs ("12", "200"), the dictionary that an `ArchResults` was saved as.
        results_type: `ArchResults` of nas_201_api or nats_bench.

    Raises:
        Exception: of many kinds, where a state is not such a record; the caller names the file.
    """
    recipes = {epochs: _restore(architecture, states[epochs], results_type) for epochs in EPOCHS}
    row: dict[str, Any] = {"architecture": architecture}
    for epochs, results in recipes.items():
        for name, training_set, evaluation_set in EVALUATIONS:
            accuracies = _last_accuracies(_trials(results, training_set), evaluation_set)
            row[f"{name}_{epochs}ep"] = fmean(accuracies) if accuracies else math.nan
            row[f"n_{name}_{epochs}ep"] = len(accuracies)
        for training_set in CLASSES:
            seconds = [
                sum(trial.train_times.values())
                for trial in _trials(results, training_set).values()
                if trial.train_times
            ]
            row[f"train_seconds_{training_set}_{epochs}ep"] = fmean(seconds) if seconds else math.nan
    for dataset in ("cifar10", "cifar100", "ImageNet16-120"):
        trials = _trials(recipes["200"], dataset) or _trials(recipes["12"], dataset)
        row[f"params_{dataset}"] = _stored_count({seed: trial.params for seed, trial in trials.items()})
        row[f"flops_{dataset}"] = _stored_count({seed: trial.flop for seed, trial in trials.items()})
    row["foreign_count"] = any(
        round(trial.params * MILLION) != parameter_count(architecture, classes)
        for results in recipes.values()
        for training_set, classes in CLASSES.items()
        for trial in _trials(results, training_set).values()
    )
    return row


def cell_frame(source: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Frame and notes of rows of `cell_row`; columns of what the source does not hold are left out.

    Raises:
        InputError: there is no accuracy at all.
    """
    frame = pd.DataFrame(rows)
    empty = [name for name in frame.columns if frame[name].isna().all()]
    frame = frame.drop(columns=empty).drop(columns=[f"n_{name}" for name in empty], errors="ignore")
    if not any(name.startswith("n_") for name in frame.columns):
        raise InputError(f"truth: {source} holds no accuracy of any architecture")
    foreign = int(frame.pop("foreign_count").sum())
    if not foreign:
        return frame, ()
    return frame, (
        f"{foreign} of {len(frame)} architectures store a parameter count that is not their own (73,306 + 243,040 "
        f"per 3x3 + 28,000 per 1x1 edge); params_ and flops_ are those stored with seed {TRUSTED_SEED}",
    )


def parameter_count(architecture: str, classes: int) -> int:
    """Parameters of the benchmark's network (16 channels, 5 cells a stage) of a cell, dead edges included."""
    edges = 243_040 * architecture.count("nor_conv_3x3") + 28_000 * architecture.count("nor_conv_1x1")
    return 73_306 + edges + 65 * (classes - 10)


def _restore(architecture: str, state: object, results_type: Any) -> Results:
    # The packages take text for the path of a further pickle and load that, so only a dictionary may pass.
    if not isinstance(state, dict):
        raise TypeError(f"results of {architecture} are not a dictionary")
    results: Results = results_type.create_from_state_dict(state)
    if results.arch_str != architecture:
        raise ValueError(f"results of {results.arch_str} stand in the place of {architecture}")
    return results


def _trials(results: Results, training_set: str) -> dict[int, Trial]:
    return results.query(training_set) if training_set in results.dataset_seed else {}


def _last_accuracies(trials: Mapping[int, Trial], evaluation_set: str) -> list[float]:
    stored = ((trial.eval_acc1es, f"{evaluation_set}@{trial.epochs - 1}") for trial in trials.values())
    return [float(accuracies[key]) for accuracies, key in stored if key in accuracies]


def _stored_count(millions: Mapping[int, float]) -> float:
    """Count of the trusted seed, else of the first; NaN without trials."""
    if not millions:
        return math.nan
    return round(millions.get(TRUSTED_SEED, next(iter(millions.values()))) * MILLION)
