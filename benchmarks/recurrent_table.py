"""Perplexities on real text of the recurrent cell found here, the published ones, and random ones, in one table.

    python -m benchmarks.recurrent_table --dataset wikitext2:FOLDER [--hidden 32] [--epochs 2] [--search-epochs 1]

Searches once, then trains every cell at the same size and recipe from the same seeds. A run that was cut off goes
on from the store and the checkpoints in --out. Rows are in the order of test perplexity, which is the mean over
the seeds; beside it stand every seed's own and the cell's NASWOT score, and below how well that ranks. The recipe
is `small`: the published dropout is for networks that can learn their text by heart, and a network of this size
cannot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets import draw_batch, load_dataset
from harness.datasets.text import Corpus
from harness.engine import ScoringJob, score_architectures
from harness.machine import versions
from harness.progress import NullProgress, progress_bar
from harness.search.base import SearchJob, load_method
from harness.search.recurrent import RecurrentRecord
from harness.store import Store
from harness.training.perplexities import PerplexityRecord, PerplexityTable
from harness.training.run import TrainingJob, train_architectures
from harness.training.text_recipes import load_text_recipe
from reports.studies.resampling import kendall_interval
from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig, RecurrentGenotype

SPACE = DARTSRNN()


def main() -> None:
    """Search, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="ptb:FOLDER or wikitext2:FOLDER")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--search-epochs", type=int, default=1)
    parser.add_argument("--random", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("recurrent-table"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(exist_ok=True)
    corpus = load_dataset(options.dataset)
    assert isinstance(corpus, Corpus)
    config = SPACE.configure(classes=len(corpus.classes), image_size=corpus.image_size, hidden=options.hidden)
    started = time.process_time()
    with Store(options.out / "store.sqlite") as store:
        cells = {"found": found(corpus, config, store, options)}
        cells |= {label: SPACE.parse(label) for label in ("DARTS_V1", "DARTS_V2")}
        rng = np.random.default_rng(0)
        cells |= {f"random {number}": SPACE.sample(rng) for number in range(1, options.random + 1)}
        trained = [training(list(cells.values()), config, store, seed, options) for seed in range(options.seeds)]
        scores = dict(zip(cells, naswot(list(cells.values()), config, corpus, store), strict=True))
    rows = [
        (label, cell, [records[str(SPACE.canonical(cell, "live"))] for records in trained])
        for label, cell in cells.items()
    ]
    unigram = [corpus.unigram_perplexity(tokens) for tokens in (corpus.tokens.validation, corpus.tokens.test)]
    print("\n| cell | validation | test | test by seed | naswot | nodes |\n| --- | --- | --- | --- | --- | --- |")
    for label, cell, records in sorted(rows, key=lambda row: mean_test(row[2])):
        nodes = " ".join(f"{activation}~{predecessor}" for activation, predecessor in cell.recurrent)
        validation = np.mean([record.validation_perplexity for record in records])
        by_seed = ", ".join(f"{record.test_perplexity:.1f}" for record in records)
        shown = f"{scores[label]:.1f}" if np.isfinite(scores[label]) else "none"
        print(f"| {label} | {validation:.1f} | {mean_test(records):.1f} | {by_seed} | {shown} | {nodes} |")
    print(f"| unigram | {unigram[0]:.1f} | {unigram[1]:.1f} | | | |\n")
    score = np.array([scores[label] for label, _, _ in rows])
    quality = -np.array([mean_test(records) for _, _, records in rows])
    has = np.isfinite(score)
    print(
        f"Kendall of naswot with falling test perplexity: {kendall_interval(score[has], quality[has])} over the "
        f"{has.sum()} cells with a score; {kendall_interval(np.where(has, score, -np.inf), quality)} over all "
        f"{len(rows)}, those without last\n"
    )
    print(
        f"{options.dataset}: {corpus.origin}; {len(corpus.classes)} words, {100 * corpus.unknown:.1f} % of "
        f"validation and test unknown; {SPACE.complexity(cell, config).params:,} parameters; "
        f"{options.epochs} epochs; {time.process_time() - started:.0f} s of processor time; {versions()}"
    )


def found(corpus: Corpus, config: DARTSRNNConfig, store: Store, options: argparse.Namespace) -> RecurrentGenotype:
    """The cell of a first order search."""
    method = load_method("darts-rnn", {"epochs": options.search_epochs, "batch_size": 32, "dropout": 0.1})
    with progress_bar("search", method.steps) as progress:
        record = method.run(SearchJob(SPACE, config, corpus, 0, "cpu", store, options.out), progress)
    assert isinstance(record, RecurrentRecord)
    print(f"search: supernet's validation perplexity {record.validation_perplexity:.1f}, {record.seconds:.0f} s")
    return SPACE.parse(record.architecture)


def training(
    cells: list[RecurrentGenotype], config: DARTSRNNConfig, store: Store, seed: int, options: argparse.Namespace
) -> dict[str, PerplexityRecord]:
    """The cells trained from one seed, or what the store has of them, by canonical text."""
    recipe = load_text_recipe("small", epochs=options.epochs)
    job = TrainingJob("darts-rnn", config, recipe, seed, options.dataset, Path(), None, "cpu")
    with progress_bar(f"train, seed {seed}", len(cells)) as progress:
        summary = train_architectures(
            job, cells, store, checkpoints=options.out, processes=options.processes, progress=progress
        )
    if summary.interrupted:
        raise SystemExit("stopped; the same command goes on")
    return PerplexityTable(store).read(store.training_context(job.context()))


def naswot(
    cells: list[RecurrentGenotype], config: DARTSRNNConfig, corpus: Corpus, store: Store
) -> NDArray[np.float64]:
    """Score of each cell on 32 sequences; NaN where it has none."""
    job = ScoringJob("darts-rnn", config, "naswot", 0, draw_batch(corpus, 32, 0), "cpu")
    score_architectures(job, cells, store, NullProgress(), processes=1)
    records = dict(store.asked_scores(store.score_context(job.context())))
    values = [records[str(cell)].value for cell in cells]
    return np.array([np.nan if value is None else value for value in values])


def mean_test(records: list[PerplexityRecord]) -> float:
    """Mean test perplexity over seeds."""
    return float(np.mean([record.test_perplexity for record in records]))


if __name__ == "__main__":
    main()
