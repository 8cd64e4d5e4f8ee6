"""Scores for a study: from the store, and computed into it where they are missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.backends import choose_backend
from harness.datasets import Batch, draw_batch
from harness.engine import ScoringJob, score_architectures, some_plans
from harness.progress import Progress
from harness.records import Run
from harness.scorers.base import load_scorer
from reports.statistics import Floats
from reports.studies.base import Bars, StudySetting
from spaces.base import Architecture, ArchitectureT
from spaces.errors import InputError


def measure(
    setting: StudySetting,
    architectures: Sequence[Architecture],
    bar: Progress,
    *,
    scorer: str | None = None,
    seed: int | None = None,
    batch: Batch | None = None,
) -> Floats:
    """Scores float64 [n], more is better, NaN where there is none; the bar advances by n.

    Without more said the scorer is the setting's first, the weights come from the setting's seed and the batch
    from the same seed as the weights, as in `tfnas score`.
    """
    job = make_job(setting, architectures, scorer=scorer, seed=seed, batch=batch)
    summary = score_architectures(job, architectures, setting.store, bar, processes=setting.processes)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.computed:
        context = setting.store.score_context(job.context())
        setting.store.add_score_run(context, Run(setting.command, summary.computed, summary.seconds))
    known = known_scores(setting, job)
    return np.array([known[str(architecture)] for architecture in architectures])


def best_scored(setting: StudySetting, drawn: Sequence[ArchitectureT], seed: int, bars: Bars) -> ArchitectureT:
    """The architecture of the highest score among those drawn, weights and batch by the seed.

    Raises:
        InputError: none of them has a score.
    """
    with bars(f"score {setting.scorers[0]} seed {seed}", len(drawn)) as bar:
        scores = measure(setting, drawn, bar, seed=seed)
    if np.isnan(scores).all():
        scorer = setting.scorers[0]
        raise InputError(f"none of the {len(drawn)} architectures drawn has a score by --scorer {scorer}")
    return drawn[int(np.nanargmax(scores))]


def make_job(
    setting: StudySetting,
    architectures: Sequence[Architecture],
    *,
    scorer: str | None = None,
    seed: int | None = None,
    batch: Batch | None = None,
) -> ScoringJob:
    """The job that `measure` runs."""
    scorer = scorer or setting.scorers[0]
    seed = setting.seed if seed is None else seed
    batch = draw_batch(setting.dataset, setting.batch_size, seed) if batch is None else batch
    plans = some_plans(setting.space, setting.config, scorer, list(map(str, architectures)))
    backend, _ = choose_backend(setting.backend, setting.device, plans)
    return ScoringJob(setting.space.name, setting.config, scorer, seed, batch, setting.device, backend)


def known_scores(setting: StudySetting, job: ScoringJob) -> dict[str, float]:
    """Every score that the store holds for a job by architecture, more is better, NaN where there is none."""
    direction = 1.0 if load_scorer(job.scorer).higher_is_better else -1.0
    context = setting.store.score_context(job.context())
    return {
        architecture: np.nan if record.value is None else direction * record.value
        for architecture, record in setting.store.asked_scores(context)
    }


def seconds_per_score(setting: StudySetting, job: ScoringJob) -> float:
    """Mean seconds of one score of a job, measured when it was computed; NaN where the store holds none."""
    seconds = [
        record.seconds for record in setting.store.scores(setting.store.score_context(job.context())).values()
    ]
    return float(np.mean(seconds)) if seconds else np.nan


def counts(setting: StudySetting, architectures: Sequence[Architecture]) -> dict[str, Floats]:
    """Parameters and FLOPs of the scored networks, float64 [n] each; empty where the space has no rule."""
    found = [setting.space.complexity(architecture, setting.config) for architecture in architectures]
    if any(complexity is None for complexity in found):
        return {}
    return {name: np.array([float(getattr(value, name)) for value in found]) for name in ("params", "flops")}
