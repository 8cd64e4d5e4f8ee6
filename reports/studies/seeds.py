"""What studies of small searches share: architectures searched and trained once a seed, and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from harness.search.differentiable import differentiable_search
from harness.training.recipes import Recipe
from reports.statistics import Floats, Interval
from reports.studies.base import Bars, StudySetting
from reports.studies.jobs import run_search, training_job, trainings
from spaces.base import AnySpace, Architecture

SEEDS = 3
FEWEST_SEEDS = 2

VALIDATION_IMAGES = 100
"""Validate at most in the trainings of a study, which compares test accuracies."""


def seeds_of(setting: StudySetting) -> range:
    """The setting's seed and those after it, one for each run."""
    return range(setting.seed, setting.seed + (setting.runs or SEEDS))


def searched(
    setting: StudySetting, method: str, settings: Mapping[str, Any], seed: int, bars: Bars
) -> Architecture:
    """What a differentiable search of the setting's space finds, from the store where it is there."""
    search = differentiable_search(method, dict(settings))
    name = "-".join(map(str, (method, *settings.values()))).replace("/", " ")
    _, found = run_search(setting, search, name, f"search {method} seed {seed}", seed, bars)
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
    config = setting.training_config
    if space is not None:
        known = {name: getattr(config, name) for name in space.config_type.__dataclass_fields__}
        config = space.config_type(**known)
    job = training_job(
        setting,
        seed,
        space=space.name if space else None,
        config=config,
        recipe=recipe,
        validation_images=VALIDATION_IMAGES,
    )
    with bars(f"train by seed {seed}", len(architectures)) as bar:
        return np.array([record.test_accuracy for record in trainings(setting, job, architectures, bar)])


def mean_over_seeds(values: Floats) -> Interval:
    """Mean of values [seeds] with its 95 % interval by Student's t; no interval for a single value."""
    mean, count = float(np.mean(values)), len(values)
    if count < FEWEST_SEEDS:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)
