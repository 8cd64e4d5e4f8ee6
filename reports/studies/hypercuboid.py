"""Which path of a HyperCuboid to train: the comparison of sharpDARTS (Hundt et al., 2019), at a small size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reports.html import Head
from reports.statistics import Floats
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import interval_rows
from reports.studies.scores import best_scored
from reports.studies.seeds import mean_over_seeds, searched, seeds_of, trained
from reports.studies.words import hundredths, named_values, points, several, verdict
from spaces.base import Architecture
from spaces.errors import InputError
from spaces.hypercuboid import HyperCuboid

SAMPLE = 50
"""Paths that NASWOT scores for each seed, of which it keeps the best."""

SEARCH = {
    "epochs": 4,
    "batch_size": 32,
    "train_images": 384,
    "validation_fraction": 0.1,
    "warmup": 1,
    "alpha_learning_rate": 0.1,
}
"""What a search replaces in its published recipe: 48 steps instead of 62,500, with faster alphas.

Its cutout is half of an image's side, as 16 pixels are on CIFAR-10.
"""

BY_HAND, SOFTMAX, MAX_W, RANDOM = "by hand: doubled at each reduction", "DARTS: softmax", "Max-W", "random"


def study_hypercuboid(setting: StudySetting, bars: Bars) -> Findings:
    """Paths found by both weightings, by hand, by score and at random, each trained by the same recipe."""
    space = setting.space
    if not isinstance(space, HyperCuboid):
        raise InputError(f"this study compares paths: give --space hypercuboid, not {space.name}")
    seeds = seeds_of(setting)
    sample = setting.sample or SAMPLE
    by_score = f"best {setting.scorers[0]} of {sample}"
    choices: dict[str, list[Architecture]] = {
        BY_HAND: [space.doubling() for _ in seeds],
        SOFTMAX: [_search(setting, "softmax", seed, bars) for seed in seeds],
        MAX_W: [_search(setting, "max-w", seed, bars) for seed in seeds],
        by_score: [
            best_scored(setting, space.sample_distinct(sample, np.random.default_rng(seed)), seed, bars)
            for seed in seeds
        ],
        RANDOM: [space.sample(np.random.default_rng(seed)) for seed in seeds],
    }
    by_seed = [
        trained(setting, [paths[place] for paths in choices.values()], seed, bars)
        for place, seed in enumerate(seeds)
    ]
    accuracies = dict(zip(choices, np.array(by_seed).T, strict=True))
    return Findings(
        sentences=tuple(_sentences(accuracies, by_score)),
        tables=(_table(setting, choices, accuracies), _paths(choices, accuracies, seeds)),
        figures=(_figure(accuracies),),
        data=_data(choices, accuracies, seeds),
    )


def _search(setting: StudySetting, weighting: str, seed: int, bars: Bars) -> Architecture:
    settings = {"weighting": weighting, "cutout": setting.dataset.image_size // 2, **SEARCH}
    return searched(setting, "dhgs", settings, seed, bars)


def _table(
    setting: StudySetting, choices: Mapping[str, Sequence[Architecture]], accuracies: Mapping[str, Floats]
) -> StudyTable:
    heads = (
        Head("Path", is_text=True),
        Head("Test accuracy", "In percent: mean over seeds, interval by Student's t."),
        Head("Over the path by hand", "In points, paired by seed."),
        Head("Parameters", "Of the trained network, mean over seeds."),
    )
    rows = [
        (
            name,
            hundredths(mean_over_seeds(values)),
            "" if name == BY_HAND else points(mean_over_seeds(values - accuracies[BY_HAND])),
            f"{np.mean([_parameters(setting, path) for path in choices[name]]):,.0f}",
        )
        for name, values in accuracies.items()
    ]
    cutout = f"cutout {setting.dataset.image_size // 2}"
    return StudyTable(
        "Each path trained by the same recipe",
        heads,
        tuple(rows),
        f"{several(len(accuracies[BY_HAND]), 'seed')} of search, sample, split and training alike, on "
        f"{setting.dataset_name} at {setting.training_config}, trained by {setting.recipe.name} for "
        f"{setting.recipe.epochs} epochs. Searches are dhgs with {cutout}, {named_values(SEARCH)}.",
    )


def _parameters(setting: StudySetting, path: Architecture) -> int:
    complexity = setting.space.complexity(path, setting.training_config)
    assert complexity is not None
    return complexity.params


def _paths(
    choices: Mapping[str, Sequence[Architecture]], accuracies: Mapping[str, Floats], seeds: Sequence[int]
) -> StudyTable:
    rows = [
        (name, str(seed), str(path), f"{value:.2f}")
        for name, paths in choices.items()
        for seed, path, value in zip(seeds, paths, accuracies[name], strict=True)
    ]
    heads = (
        Head("Path", is_text=True),
        Head("Seed"),
        Head("Widths and operations", is_text=True),
        Head("Accuracy"),
    )
    return StudyTable("The paths", heads, tuple(rows), "Widths are multiples of the smallest.")


def _figure(accuracies: Mapping[str, Floats]) -> StudyFigure:
    others = [name for name in accuracies if name != BY_HAND]
    gains = [mean_over_seeds(accuracies[name] - accuracies[BY_HAND]) for name in others]
    picture = interval_rows(others, [("", gains)], x_label="test accuracy over the path by hand (points)")
    return StudyFigure(
        "gains", "What each path gains over the one that doubles its width at each reduction", picture
    )


def _sentences(accuracies: Mapping[str, Floats], by_score: str) -> list[str]:
    def gain(better: str, worse: str) -> tuple[str, str]:
        interval = mean_over_seeds(accuracies[better] - accuracies[worse])
        return verdict(interval), points(interval)

    loses, by = gain(BY_HAND, SOFTMAX)
    wins, over = gain(MAX_W, BY_HAND)
    better, ahead = gain(MAX_W, SOFTMAX)
    scored, more = gain(by_score, BY_HAND)
    return [
        f"The article's claim that plain DARTS loses to the path by hand {loses}: {by} points.",
        f"Its claim that Max-W beats the path by hand {wins}: {over} points.",
        f"That Max-W finds better paths than softmax {better}: {ahead} points.",
        f"That the {by_score} beats the path by hand {scored}: {more} points.",
    ]


def _data(
    choices: Mapping[str, Sequence[Architecture]], accuracies: Mapping[str, Floats], seeds: Sequence[int]
) -> pd.DataFrame:
    """A row a path and seed."""
    return pd.DataFrame(
        {"choice": name, "seed": seed, "architecture": str(path), "test_accuracy": value}
        for name, paths in choices.items()
        for seed, path, value in zip(seeds, paths, accuracies[name], strict=True)
    )


STUDY = Study(
    name="hypercuboid",
    title="Which path of a HyperCuboid to train",
    question="Do paths found by DARTS and by Max-W beat one by hand, the best score's and a random one?",
    run=study_hypercuboid,
)
