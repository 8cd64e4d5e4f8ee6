"""Our scores beside published ones of the same scorers, on the same architectures.

    python -m benchmarks.scorer_validation --space nasbench201 --peers FILE --data npz:FILE --store STORE
        --scorer snip --scorer jacov [--shuffle 0] [--first 200] [--batch-size 32] [--twice 100]

`--peers` is a table with a column `architecture` or `genotype`, one column for each scorer, and `val_accuracy`.
The batch, and for most scorers the initial weights, are not the published ones, so two honest programs cannot
agree in full. How far they can is measured: with `--twice N`, each of N architectures is scored two times more,
every time with weights and a batch of its own, as a program scores that seeds nothing between networks. Scores
are kept in the store, so a stopped run goes on. Prints a Markdown table; one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness.cli.setting import Setting, load_setting
from harness.datasets import draw_batch
from harness.engine import ScoringJob, families, score_together
from harness.machine import versions
from harness.progress import NullProgress
from harness.scorers.base import load_scorer
from harness.store import Store
from spaces.base import Architecture

Scores = NDArray[np.float64]

HEADS = ("scorer", "n", "Spearman with published", "two draws of ours", "Kendall with accuracy", "published")


def main() -> None:
    """Score what the store lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--peers", required=True, help="Parquet table of published scores")
    parser.add_argument("--dataset", help="rows of this value in the table's column dataset")
    parser.add_argument("--data", required=True, help="data set that the scores read, such as npz:FILE")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--scorer", action="append", required=True)
    parser.add_argument("--shuffle", type=int, help="seed of a random order of the table, else as listed")
    parser.add_argument("--first", type=int, help="only so many architectures of the table")
    parser.add_argument("--twice", type=int, default=0, help="architectures that are scored two times more")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--cells", type=int)
    options = parser.parse_args()
    setting = load_setting(
        options.space,
        options.data,
        data_dir=Path("data"),
        download=False,
        image_size=None,
        device="cpu",
        channels=options.channels,
        cells=options.cells,
    )
    peers = published_scores(options.peers, options.dataset, options.shuffle, options.first)
    architectures = [setting.space.parse(str(text)) for text in peers.index]
    print(f"| {' | '.join(HEADS)} |\n| --- |{' ---: |' * (len(HEADS) - 1)}")
    with Store(options.store) as store:
        for names in by_family(options.scorer):
            scorer = Scorings(setting, store, names, options.batch_size)
            ours = scorer.scores(architectures, 0)
            draws = [scorer.fresh_scores(architectures[: options.twice], start) for start in (1, 1 + len(peers))]
            for name in names:
                print(
                    f"| {' | '.join(row(name, peers, ours[name], [draw[name] for draw in draws]))} |", flush=True
                )
    print(f"batch {options.batch_size}, {versions()}")


def published_scores(path: str, dataset: str | None, shuffle: int | None, first: int | None) -> pd.DataFrame:
    """The table by architecture, cut to the first of its order."""
    table = pd.read_parquet(path)
    if dataset is not None:
        table = table[table.dataset == dataset]
    table = table.set_index("architecture" if "architecture" in table else "genotype")
    order = np.arange(len(table)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(table))
    return table.iloc[order[:first]]


def by_family(names: Sequence[str]) -> Iterator[list[str]]:
    """The scorers, those of one pass together."""
    from harness.scorers.base import shared_pass

    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(shared_pass(load_scorer(name)), []).append(name)
    yield from groups.values()


class Scorings:
    """Scores of one family by this library, kept in a store; NaN where there is none."""

    def __init__(self, setting: Setting, store: Store, names: Sequence[str], batch_size: int) -> None:
        self._setting, self._store, self._names, self._batch_size = setting, store, names, batch_size

    def scores(self, architectures: Sequence[Architecture], seed: int) -> dict[str, Scores]:
        """By scorer, float64 [n]: all with the weights and the batch of one seed."""
        setting = self._setting
        batch = draw_batch(setting.dataset, self._batch_size, seed)
        jobs = [ScoringJob(setting.space.name, setting.config, name, seed, batch, "cpu") for name in self._names]
        (family,) = families(jobs)
        score_together(family, architectures, self._store, NullProgress(), processes=1)
        found = {}
        for job in jobs:
            records = dict(self._store.asked_scores(self._store.score_context(job.context())))
            values = [records[str(architecture)].value for architecture in architectures]
            found[job.scorer] = np.array([np.nan if value is None else value for value in values])
        return found

    def fresh_scores(self, architectures: Sequence[Architecture], first_seed: int) -> dict[str, Scores]:
        """By scorer, float64 [n]: each architecture with a seed of its own."""
        alone = [self.scores([architecture], first_seed + i) for i, architecture in enumerate(architectures)]
        return {name: np.array([scores[name][0] for scores in alone]) for name in self._names}


def row(name: str, peers: pd.DataFrame, ours: Scores, draws: Sequence[Scores]) -> list[str]:
    """Cells of one row of the table."""
    accuracy = peers["val_accuracy"].to_numpy()
    unscored = int(np.isnan(ours).sum())
    cells = [name, f"{len(ours)}" + (f" ({unscored} unscored, last)" if unscored else "")]
    theirs = peers[name].to_numpy() if name in peers else None
    cells.append("–" if theirs is None else f"{spearman(ours, theirs):.3f}")
    cells.append(f"{spearman(*draws):.3f} ({len(draws[0])})" if len(draws[0]) else "–")
    cells.append(f"{kendall(ours, accuracy):.3f}")
    cells.append("–" if theirs is None else f"{kendall(theirs, accuracy):.3f}")
    return cells


def spearman(scores: Scores, others: Scores) -> float:
    """Spearman's correlation; without a score means last on either side."""
    return float(stats.spearmanr(_last_for_none(scores), _last_for_none(others)).statistic)


def kendall(scores: Scores, accuracy: Scores) -> float:
    """Kendall's tau-b; without a score means last."""
    return float(stats.kendalltau(_last_for_none(scores), accuracy).statistic)


def _last_for_none(scores: Scores) -> Scores:
    return np.where(np.isnan(scores), -np.inf, scores)


if __name__ == "__main__":
    main()
