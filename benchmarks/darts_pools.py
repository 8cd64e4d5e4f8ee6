"""Do gradient scores of DARTS genotypes agree with the published ones once each pool is normalised?

    python -m benchmarks.darts_pools --peers darts_nasbench301_peer_scores.parquet --data npz:FILE [--first 40]
        [--scorer snip --scorer grasp]

The network of the published scores has a batch norm without scale and shift after every pool; that of DARTS's
authors, which ours is, has none. Both are scored here, with equal weights on one batch, and compared with the
table: Spearman correlation and its 95 % bootstrap interval. How well two honest programs can agree is the last
column: two draws with pools normalised, each genotype with weights and a batch of its own.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from harness.backends import load_backend
from harness.datasets import draw_batch, load_dataset
from harness.machine import versions
from harness.progress import progress_bar
from harness.scorers.base import load_scorer, scores_of
from reports.studies.resampling import bootstrap
from spaces.darts.network import CellNetwork
from spaces.operations import NormalisedPool
from spaces.registry import load_space

ONE_BACKWARD = ("snip", "grad_norm", "fisher", "plain")
"""Scorers of one backward pass."""


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="Parquet table of published scores, column genotype")
    parser.add_argument("--data", required=True, help="data set of 32x32 colour images, such as npz:FILE")
    parser.add_argument("--first", type=int, default=40, help="genotypes of the table")
    parser.add_argument("--scorer", action="append", help=f"default: {', '.join(ONE_BACKWARD)}")
    options = parser.parse_args()
    scorers = [load_scorer(name) for name in options.scorer or ONE_BACKWARD]
    torch.set_num_threads(1)
    peers = pd.read_parquet(options.peers).iloc[: options.first]
    space = load_space("darts")
    config = space.configure(input_channels=3, image_size=32, classes=10, channels=32, cells=8)
    dataset = load_dataset(options.data)
    backend = load_backend("torch", torch.device("cpu"), 0)
    values = np.empty((4, len(scorers), len(peers)))
    with progress_bar("score", len(peers)) as progress:
        for column, text in enumerate(peers.genotype):
            seeds = (0, 0, 1 + column, 1 + len(peers) + column)
            for kind, seed in enumerate(seeds):
                network = space.network(space.parse(text), config, seed)
                if kind:
                    normalise_pools(network)
                found = scores_of(scorers, network, draw_batch(dataset, 32, seed), backend)
                values[kind, :, column] = [score.value for score in found]
            progress.advance(1)
    print("\n| scorer | as the authors' | pools normalised | two draws |\n| --- | ---: | ---: | ---: |")
    for row, scorer in enumerate(scorers):
        as_is, normalised, one, other = values[:, row]
        published = peers[scorer.name].to_numpy(float)
        pairs = ((as_is, published), (normalised, published), (one, other))
        print(f"| {scorer.name} | {' | '.join(agreement(*pair) for pair in pairs)} |")
    print(f"\n{len(peers)} genotypes, Spearman with published; {versions()}")


def normalise_pools(network: nn.Module) -> None:
    """Put a batch norm without scale and shift after every pool of a cell."""
    for cell in network.modules():
        if isinstance(cell, CellNetwork):
            for name, operation in cell.edges.items():
                if isinstance(operation, nn.AvgPool2d | nn.MaxPool2d):
                    cell.edges[name] = NormalisedPool(operation, cell.output_channels)


def agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Spearman of two scores of the same genotypes [n], with its interval."""
    return str(bootstrap(lambda chosen: float(stats.spearmanr(one[chosen], other[chosen])[0]), len(one)))


if __name__ == "__main__":
    main()
