"""What each part of sharpDARTS is worth: block, schedule, weighting (Hundt et al., 2019), at a small size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports.html import Head
from reports.statistics import Floats
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import interval_rows
from reports.studies.seeds import mean_over_seeds, searched, seeds_of, trained
from reports.studies.words import hundredths, named_values, points, several, verdict
from spaces.darts import DARTS, Genotype
from spaces.darts.genotype import CHOICES, sample_cell
from spaces.errors import InputError
from spaces.sharpdarts import SharpDARTS

SAMPLE = 2
"""Genotypes whose block and schedule are changed."""

POWER = 10.0
"""Of Cosine Power Annealing in short trainings: the larger of the two published values, since 2 is close to 1."""

SEARCH = {
    "epochs": 3,
    "batch_size": 32,
    "train_images": 128,
    "validation_fraction": 0.1,
    "warmup": 1,
    "alpha_learning_rate": 0.1,
}
"""What a search replaces in its published recipe: 12 steps instead of 62,500, with faster alphas.

Its cutout is half of an image's side, as 16 pixels are on CIFAR-10.
"""


@dataclass(frozen=True, eq=False)
class Change:
    """One change, all else equal: test accuracies in percent before and after it, float64 [seeds].

    `claim` says what the article expects of `after`.
    """

    name: str
    before: Floats
    after: Floats
    claim: str


def study_sharp_ablation(setting: StudySetting, bars: Bars) -> Findings:
    """The same genotypes with another block or schedule, and searches with another weighting."""
    space = setting.space
    if not isinstance(space, SharpDARTS):
        raise InputError(f"this study changes parts of sharpDARTS: give --space sharpdarts, not {space.name}")
    seeds = seeds_of(setting)
    genotypes = shared_genotypes(space, setting.sample or SAMPLE, setting.seed)
    power = replace(setting.recipe, schedule="cosine-power", power=POWER)
    plain = np.array([trained(setting, genotypes, seed, bars) for seed in seeds])
    of_darts = np.array([trained(setting, genotypes, seed, bars, space=DARTS()) for seed in seeds])
    annealed = np.array([trained(setting, genotypes, seed, bars, recipe=power) for seed in seeds])
    cutout = setting.dataset.image_size // 2
    found = {
        weighting: [
            searched(setting, "sharpdarts", {"weighting": weighting, "cutout": cutout, **SEARCH}, seed, bars)
            for seed in seeds
        ]
        for weighting in ("softmax", "max-w")
    }
    of_search = {
        weighting: np.array(
            [trained(setting, [genotype], seed, bars)[0] for genotype, seed in zip(chosen, seeds, strict=True)]
        )
        for weighting, chosen in found.items()
    }
    changes = [
        Change("DARTS's convolutions to SharpSepConv", of_darts.mean(1), plain.mean(1), "SharpSepConv is better"),
        Change(
            f"cosine to Cosine Power Annealing, power {POWER:g}",
            plain.mean(1),
            annealed.mean(1),
            "Cosine Power Annealing is better",
        ),
        Change("softmax to Max-W in the search", of_search["softmax"], of_search["max-w"], "Max-W is better"),
    ]
    return Findings(
        sentences=tuple(_sentence(change) for change in changes),
        tables=(_table(setting, changes, len(genotypes)), _found(found, of_search, seeds)),
        figures=(_figure(changes),),
        data=_data(changes, seeds),
    )


def shared_genotypes(space: SharpDARTS, count: int, seed: int) -> list[Genotype]:
    """Genotypes over the operations that both spaces name; only the dilated convolutions differ between them."""
    shared = [operation for operation in space.operations if operation in CHOICES]
    rng = np.random.default_rng(seed)
    return [Genotype(sample_cell(rng, shared), sample_cell(rng, shared)) for _ in range(count)]


def _table(setting: StudySetting, changes: Sequence[Change], genotypes: int) -> StudyTable:
    heads = (
        Head("Change", is_text=True),
        Head("Before", "Test accuracy in percent: mean over seeds, interval by Student's t."),
        Head("After"),
        Head("Gain", "In points, paired by seed."),
    )
    rows = [
        (
            change.name,
            hundredths(mean_over_seeds(change.before)),
            hundredths(mean_over_seeds(change.after)),
            points(mean_over_seeds(change.after - change.before)),
        )
        for change in changes
    ]
    cutout = f"cutout {setting.dataset.image_size // 2}"
    return StudyTable(
        "One change at a time",
        heads,
        tuple(rows),
        f"{several(len(changes[0].before), 'seed')}; block and schedule are means over "
        f"{several(genotypes, 'random genotype')}, the same before and after. "
        f"Networks at {setting.training_config} on {setting.dataset_name}, trained by "
        f"{setting.recipe.name} for {setting.recipe.epochs} epochs; "
        f"searches are sharpdarts with {cutout}, {named_values(SEARCH)}.",
    )


def _found(
    found: Mapping[str, Sequence[object]], accuracies: Mapping[str, Floats], seeds: Sequence[int]
) -> StudyTable:
    rows = [
        (weighting, str(seed), f"{value:.2f}", str(genotype))
        for weighting, chosen in found.items()
        for seed, value, genotype in zip(seeds, accuracies[weighting], chosen, strict=True)
    ]
    heads = (Head("Weighting", is_text=True), Head("Seed"), Head("Accuracy"), Head("Genotype", is_text=True))
    return StudyTable("What the searches found", heads, tuple(rows))


def _figure(changes: Sequence[Change]) -> StudyFigure:
    gains = [mean_over_seeds(change.after - change.before) for change in changes]
    names = [change.name for change in changes]
    picture = interval_rows(names, [("", gains)], x_label="gain in test accuracy (points)")
    return StudyFigure("gains", "What each change gains, all else equal", picture)


def _sentence(change: Change) -> str:
    interval = mean_over_seeds(change.after - change.before)
    return f"The article's claim that {change.claim} {verdict(interval)}: {points(interval)} points."


def _data(changes: Sequence[Change], seeds: Sequence[int]) -> pd.DataFrame:
    """A row a change and seed."""
    return pd.DataFrame(
        {"change": change.name, "seed": seed, "before": before, "after": after}
        for change in changes
        for seed, before, after in zip(seeds, change.before, change.after, strict=True)
    )


STUDY = Study(
    name="sharp-ablation",
    title="What each part of sharpDARTS is worth",
    question="Do SharpSepConv, Cosine Power Annealing and Max-W each help, one change at a time?",
    run=study_sharp_ablation,
)
