"""Kernels of networks that train badly, middling and well, as in the article, and a number for what they show."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import numpy as np
import pandas as pd

from harness.backends import load_backend
from harness.backends.module import module_kernel
from harness.engine import ScoringJob
from harness.progress import Progress
from harness.scorers.base import load_scorer
from harness.scorers.naswot import NASWOT, log_determinant
from harness.store import Store
from harness.workers import run_tasks
from reports.html import Head
from reports.plots import scatter
from reports.statistics import Floats, Integers, agreement
from reports.studies.accuracies import load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import kernel_grid
from reports.studies.resampling import kendall_gain, kendall_interval
from reports.studies.scores import make_job
from reports.studies.words import several, verdict
from spaces.base import Architecture
from spaces.errors import InputError
from spaces.registry import load_space

SAMPLE = 100

GROUPS = {"low": (0.05, 0.1, 0.15), "middle": (0.45, 0.5, 0.55), "high": (0.85, 0.9, 0.95)}
"""Places, by rank of accuracy, of the networks whose kernels are shown."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS kernels (
    context INTEGER NOT NULL REFERENCES score_contexts(id),
    canonical TEXT NOT NULL, matrix BLOB,
    PRIMARY KEY (context, canonical)
) WITHOUT ROWID
"""

PARTS = {
    "score": "log |det K|, the score itself",
    "size": "B log N: what the number N of ReLU units adds for a batch of B images",
    "shape": "log |det K/N|: what is left when K is scaled to a diagonal of 1",
    "whiteness": "1 minus the mean of K/N beside its diagonal",
}


def study_kernels(setting: StudySetting, bars: Bars) -> Findings:
    """Kernels of a sample: nine of them as pictures, and which part of the score ranks accuracy."""
    if not isinstance(load_scorer(setting.scorers[0]), NASWOT):
        raise InputError(f"--scorer {setting.scorers[0]} has no kernel to show; naswot and naswot-published have")
    accuracies = load_accuracies(setting)
    chosen = accuracies.sample(setting.sample or SAMPLE, setting.seed)
    with bars("kernels", len(chosen)) as bar:
        kernels = _kernels(setting, chosen, bar)
    known = [index for index, kernel in enumerate(kernels) if log_determinant(kernel).value is not None]
    if len(known) < len(GROUPS):
        raise InputError(f"only {len(known)} of {len(chosen)} networks have a kernel of full rank; give more")
    found = [kernel for index in known if (kernel := kernels[index]) is not None]
    truth = accuracies.values(accuracies.column, [chosen[index] for index in known])
    parts = _parts(found)
    data = pd.DataFrame(
        {"architecture": [str(chosen[index]) for index in known], accuracies.column: truth, **parts}
    )
    white = agreement("whiteness", accuracies.column, parts["whiteness"], truth)
    picture = scatter(parts["whiteness"], truth, scorer="whiteness", truth_name=accuracies.column, agreement=white)
    return Findings(
        sentences=tuple(_sentences(parts, truth, accuracies.column)),
        tables=(_table(parts, truth, accuracies.column),),
        figures=(
            StudyFigure("grid", "Kernels scaled to a diagonal of 1, accuracy above each", _grid(found, truth)),
            StudyFigure("whiteness", f"Whiteness of the kernel against {accuracies.column}", picture.png),
        ),
        data=data,
    )


def _kernels(setting: StudySetting, architectures: Sequence[Architecture], bar: Progress) -> list[Integers | None]:
    """K int64 [B, B] of each, None without a counted ReLU; what the store lacks is computed into it."""
    job = make_job(setting, architectures)
    counting = load_scorer(job.scorer).counting
    assert counting is not None
    texts = [str(setting.space.canonical(architecture, counting)) for architecture in architectures]
    table = _KernelTable(setting.store, setting.store.score_context(job.context()))
    known = table.read()
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    bar.advance(len(texts) - len(missing))
    with closing(run_tasks(missing, partial(_KernelMaker, job), processes=setting.processes or 1)) as results:
        for text, kernel in results:
            table.add(text, kernel)
            known[text] = kernel
            bar.advance()
    return [known[text] for text in texts]


class _KernelMaker:
    """Makes kernels with one job; lives in a worker process, where it keeps its weights."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._space = load_space(job.space)
        self._images = job.batch.images.to(job.device)
        self._backend = load_backend(job.backend, self._images.device, job.seed)

    def __call__(self, text: str) -> Integers | None:
        architecture, counting = self._space.parse(text), load_scorer(self._job.scorer).counting
        plan = self._space.plan(architecture, self._job.config, counting) if counting else None
        if plan is not None:
            return self._backend.kernel(plan, self._images)
        network = self._space.network(architecture, self._job.config, self._job.seed)
        return module_kernel(network.to(self._job.device), self._images, self._job.seed)


class _KernelTable:
    """The kernels of one score context in a store."""

    def __init__(self, store: Store, context: int) -> None:
        store.add_tables(SCHEMA)
        self._store = store
        self._context = context

    def read(self) -> dict[str, Integers | None]:
        """Every kernel by canonical text."""
        rows = self._store.rows("SELECT canonical, matrix FROM kernels WHERE context = ?", self._context)
        return {canonical: None if matrix is None else _unpacked(matrix) for canonical, matrix in rows}

    def add(self, canonical: str, kernel: Integers | None) -> None:
        """Write a kernel."""
        packed = None if kernel is None else zlib.compress(kernel.astype("<i8").tobytes())
        self._store.insert("INSERT OR REPLACE INTO kernels VALUES (?, ?, ?)", [(self._context, canonical, packed)])


def _unpacked(matrix: bytes) -> Integers:
    values = np.frombuffer(zlib.decompress(matrix), "<i8").astype(np.int64)
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def _parts(kernels: Sequence[Integers]) -> dict[str, Floats]:
    """The quantities of `PARTS`, float64 [n] each; score = size + shape."""
    units = np.array([float(kernel[0, 0]) for kernel in kernels])
    images = len(kernels[0])
    scores = np.array([float(log_determinant(kernel).value or np.nan) for kernel in kernels])
    beside = np.array([(kernel.sum() - kernel.trace()) / (images * (images - 1)) for kernel in kernels])
    size = images * np.log(units)
    return {"score": scores, "size": size, "shape": scores - size, "whiteness": 1 - beside / units}


def _grid(kernels: Sequence[Integers], truth: Floats) -> bytes:
    order = np.argsort(truth, kind="stable")
    rows = []
    for name, places in GROUPS.items():
        indices = [order[round(place * (len(order) - 1))] for place in places]
        rows.append((name, [(f"{truth[index]:.2f} %", kernels[index]) for index in indices]))
    return kernel_grid(rows)


def _table(parts: dict[str, Floats], truth: Floats, column: str) -> StudyTable:
    heads = (Head("Quantity", is_text=True), Head("What it is", is_text=True), Head(f"Kendall with {column}"))
    rows = [(name, PARTS[name], str(kendall_interval(values, truth))) for name, values in parts.items()]
    return StudyTable("Which part of the score ranks accuracy", heads, tuple(rows))


def _sentences(parts: dict[str, Floats], truth: Floats, column: str) -> list[str]:
    white = kendall_interval(parts["whiteness"], truth)
    gain = kendall_gain(parts["shape"], parts["size"], truth)
    more, less = ("shape", "size") if gain.value > 0 else ("size", "shape")
    certain = "for certain" if gain.low > 0 or gain.high < 0 else "though not for certain"
    return [
        f"The article's claim that networks of high accuracy have whiter kernels {verdict(white)}: over "
        f"{several(len(truth), 'network')} the whiteness of K has Kendall's tau {white} with {column}.",
        f"The score is the sum of a size term and a shape term; the {more} term ranks accuracy better than the "
        f"{less} term, {certain}: tau of the shape term minus tau of the size term is {gain}.",
    ]


STUDY = Study(
    "kernels",
    "Kernels of bad, middling and good networks",
    "Are the kernels of networks that train well whiter, and is it that what the score sees?",
    study_kernels,
)
