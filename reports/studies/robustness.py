"""How much a score depends on the images, the initial weights and the batch size: the article's ablation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from harness.datasets import Batch, Dataset, draw_batch, own_batch
from harness.datasets.base import seeded_order
from harness.training.images import crop_and_flip
from reports.html import Head
from reports.statistics import Floats, Interval
from reports.studies.accuracies import load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import boxes
from reports.studies.resampling import bootstrap, kendall, mean_pairwise_kendall, variance_shares
from reports.studies.scores import measure
from reports.studies.words import percent_interval
from spaces.base import Architecture
from spaces.weights import keyed_generator

NETWORKS = 10
DRAWS = 20
BATCH_SIZES = (32, 64, 128, 256)
"""The article's figure: ten networks, 20 draws, these batch sizes."""

FIRST_PERCENTILE = 52.5
"""Networks come from the middles of the percentile bands 50-55 to 95-100 of accuracy, as in the article."""

PADDING = 4
RESAMPLES = 300
STABLE = 0.9
"""A mean tau between two draws above this counts as a stable ranking."""

SOURCES = {
    "images": "another batch of training images, same weights",
    "weights": "other initial weights, same images",
    "batch size": "another batch of 32, 64, 128 or 256 images, scores over the lowest of their batch size",
    "noise": "another batch of Gaussian noise instead of images, same weights",
    "augmented": "another batch of images shifted and mirrored, same weights",
}


def study_robustness(setting: StudySetting, bars: Bars) -> Findings:
    """Ten networks under every source of randomness: boxes, shares of variance and stability of their ranks."""
    accuracies = load_accuracies(setting)
    everything = list(accuracies.architectures)
    networks = percentile_bands(everything, accuracies.values(accuracies.column, everything))
    truth = accuracies.values(accuracies.column, networks)
    draws = setting.runs or DRAWS
    sizes = [size for size in BATCH_SIZES if size <= len(setting.dataset.train)]
    with bars("score under each draw", len(networks) * draws * (4 + len(sizes))) as bar:

        def scores(seeds: Sequence[int], batches: Sequence[Batch]) -> Floats:
            """Scores [networks, draws] of one draw after the other."""
            pairs = zip(seeds, batches, strict=True)
            return np.stack([measure(setting, networks, bar, seed=s, batch=batch) for s, batch in pairs], axis=1)

        data, seed = setting.dataset, setting.seed
        seeds = [seed + draw for draw in range(draws)]
        fixed = [seed] * draws
        here = draw_batch(data, setting.batch_size, seed)
        found = {
            "images": scores(fixed, [draw_batch(data, setting.batch_size, each) for each in seeds]),
            "weights": scores(seeds, [here] * draws),
            "noise": scores(fixed, [noise_batch(here, each) for each in seeds]),
            "augmented": scores(fixed, [augmented_batch(data, setting.batch_size, each) for each in seeds]),
        }
        by_size = {size: scores(fixed, [draw_batch(data, size, each) for each in seeds]) for size in sizes}
    found["batch size"] = np.hstack([values / values.min() for values in by_size.values()])
    found = {source: found[source] for source in SOURCES}
    names = [f"{value:.1f}" for value in truth]
    figures = [
        StudyFigure(
            source.replace(" ", "-"),
            f"{source.capitalize()}: {text}",
            boxes(values.T, names, x_label=f"{accuracies.column} of the network (%)", y_label=_unit(source)),
        )
        for (source, text), values in zip(SOURCES.items(), found.values(), strict=True)
    ]
    return Findings(
        sentences=tuple(_sentences(found)),
        tables=(_table(found),),
        figures=tuple(figures),
        data=_rows(found, networks, truth),
    )


def percentile_bands(architectures: Sequence[Architecture], accuracies: Floats) -> list[Architecture]:
    """The network in the middle of each 5 % percentile band of accuracy [n] from 50 up, the worst first."""
    known = np.flatnonzero(~np.isnan(accuracies))
    order = known[np.argsort(accuracies[known], kind="stable")]
    percentiles = FIRST_PERCENTILE + 5 * np.arange(NETWORKS)
    places = np.unique((percentiles / 100 * (len(order) - 1)).round().astype(int))
    return [architectures[index] for index in order[places]]


def noise_batch(like: Batch, seed: int) -> Batch:
    """Standard normal pixels in the shape of a batch: what normalised images are on average."""
    pixels = keyed_generator(seed, "noise images").standard_normal(tuple(like.images.shape), np.float32)
    return _named(own_batch(torch.from_numpy(pixels)), like.labels, f"noise like {like.dataset}")


def augmented_batch(dataset: Dataset, size: int, seed: int) -> Batch:
    """The images of `draw_batch` shifted by up to 4 pixels, and mirrored where that keeps the class."""
    chosen = seeded_order(len(dataset.train), seed)[:size]
    generator = keyed_generator(seed, "augmented batch")
    pixels = crop_and_flip(torch.from_numpy(dataset.train.fetch(chosen)), PADDING, dataset.flip, generator)
    labels = torch.from_numpy(dataset.train.labels[chosen])
    return _named(own_batch(dataset.normalise(pixels.numpy())), labels, f"{dataset.name} augmented")


def _named(batch: Batch, labels: torch.Tensor, dataset: str) -> Batch:
    return Batch(batch.images, labels, batch.hash, dataset)


def _unit(source: str) -> str:
    return "score over the lowest of its batch size" if source == "batch size" else "score"


def _table(found: dict[str, Floats]) -> StudyTable:
    heads = (
        Head("Source", is_text=True),
        Head("What changes between draws", is_text=True),
        Head("Network", "Share of variance that the network explains."),
        Head("Draw", "Share that moves all networks alike, and so no rank."),
        Head("Rest", "Share that is left: what can change ranks."),
        Head("Mean tau of two draws", "Kendall between the rankings of two draws, over all pairs."),
    )
    rows = [
        (
            source,
            SOURCES[source],
            *(percent_interval(_share(values, part)) for part in range(3)),
            str(mean_pairwise_kendall(values)),
        )
        for source, values in found.items()
    ]
    note = (
        "Two-way decomposition of the scores, value = mean + network + draw + rest; intervals by bootstrap over "
        "draws. Ten networks spread over the better half of the space: their differences are part of the setting."
    )
    return StudyTable("Shares of the variance of the score", heads, tuple(rows), note)


def _share(values: Floats, part: int) -> Interval:
    count = values.shape[1]
    return bootstrap(lambda chosen: variance_shares(values[:, chosen])[part], count, resamples=RESAMPLES)


def _sentences(found: dict[str, Floats]) -> list[str]:
    sentences = []
    for source in ("images", "weights", "batch size"):
        tau = mean_pairwise_kendall(found[source])
        word = "holds" if tau.low > STABLE else "holds in part" if tau.value > 0.5 else "does not hold"
        sentences.append(
            f"The article's claim that the ranking of ten networks is stable over {source} {word} here: two draws "
            f"agree with a mean tau of {tau} (above {STABLE} counts as stable), and the part of the variance that "
            f"can change ranks is {percent_interval(_share(found[source], 2))}."
        )
    real = found["images"].mean(1)
    for source, text in (("noise", "Gaussian noise"), ("augmented", "augmented images")):
        sentences.append(
            f"Mean scores on {text} rank the networks as those on real images do with tau "
            f"{kendall(found[source].mean(1), real):.3f} (ten networks, so no interval worth printing); two draws "
            f"of it agree with a mean tau of {mean_pairwise_kendall(found[source])}."
        )
    return sentences


def _rows(found: dict[str, Floats], networks: Sequence[Architecture], truth: Floats) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "source": source,
                "architecture": np.repeat(list(map(str, networks)), values.shape[1]),
                "accuracy": np.repeat(truth, values.shape[1]),
                "draw": np.tile(np.arange(values.shape[1]), len(networks)),
                "score": values.ravel(),
            }
        )
        for source, values in found.items()
    ]
    return pd.concat(frames, ignore_index=True)


STUDY = Study(
    "robustness",
    "Images, initial weights and batch size",
    "How much of a score is the network, and how much the luck of the draw?",
    study_robustness,
)
