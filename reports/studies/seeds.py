"""What studies of small searches share: architectures searched and trained once a seed, and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from harness.search.base import SearchJob, load_method
from harness.training.recipes import Recipe
from harness.training.run import TrainingJob, train_architectures
from reports.statistics import Floats, Interval
from reports.studies.base import Bars, StudySetting
from spaces.base import AnySpace, Architecture

FEWEST_SEEDS = 2

VALIDATION_IMAGES = 100
"""Validate at most in the trainings of a study, which compares test accuracies."""


def searched(
    setting: StudySetting, method: str, settings: Mapping[str, Any], seed: int, bars: Bars
) -> Architecture:
    """What a search of the setting's space finds, from the store where it is there."""
    search = load_method(method, settings)
    name = "-".join(map(str, (method, *settings.values()))).replace("/", " ")
    folder = _folder(setting) / name
    folder.mkdir(parents=True, exist_ok=True)
    job = SearchJob(
        setting.space, setting.training_config, setting.dataset, seed, setting.device, setting.store, folder
    )
    with bars(f"search {method} seed {seed}", search.steps) as bar:
        found = search.run(job, bar)
    architecture: Architecture = setting.space.parse(found.architecture)
    return architecture


def trained(
    setting: StudySetting,
    architectures: Sequence[Architecture],
    seed: int,
    bars: Bars,
    *,
    space: AnySpace | None = None,
    recipe: Recipe | None = None,
) -> Floats:
    """Test accuracy in percent of each architecture, float64 [n], trained by one seed where the store lacks it.

    Without more said by the setting's recipe in its space. Raises KeyboardInterrupt as the training does.
    """
    chosen = space or setting.space
    config = setting.training_config
    if space is not None:
        config = chosen.config_type(
            **{name: getattr(config, name) for name in chosen.config_type.__dataclass_fields__}
        )
    asked = recipe or setting.recipe
    validating = min(asked.validation_fraction, VALIDATION_IMAGES / len(setting.dataset.train))
    job = TrainingJob(
        space=chosen.name,
        config=config,
        recipe=replace(asked, validation_fraction=validating),
        seed=seed,
        dataset=setting.dataset_name,
        data_dir=setting.data_dir,
        image_size=setting.image_size,
        device=setting.device,
    )
    with bars(f"train by seed {seed}", len(architectures)) as bar:
        summary = train_architectures(
            job,
            architectures,
            setting.store,
            checkpoints=_folder(setting),
            processes=setting.processes or 1,
            progress=bar,
        )
    if summary.interrupted:
        raise KeyboardInterrupt
    known = setting.store.trainings(setting.store.training_context(job.context()))
    return np.array([known[str(chosen.canonical(each, "live"))].test_accuracy for each in architectures])


def mean_over_seeds(values: Floats) -> Interval:
    """Mean of values [seeds] with its 95 % interval by Student's t; no interval for a single value."""
    mean, count = float(np.mean(values)), len(values)
    if count < FEWEST_SEEDS:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def points(interval: Interval) -> str:
    """A difference in percentage points with its interval, signed."""
    if math.isnan(interval.low):
        return f"{interval.value:+.2f}"
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def accuracy(interval: Interval) -> str:
    """A mean accuracy in percent with its interval."""
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _folder(setting: StudySetting) -> Path:
    """Of checkpoints."""
    return Path(f"{setting.store.path}.checkpoints")
