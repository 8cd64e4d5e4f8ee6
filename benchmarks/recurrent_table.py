"""Perplexities on real text of the recurrent cell found here, the published ones, and random ones, in one table.

    python -m benchmarks.recurrent_table --dataset wikitext2:FOLDER [--hidden 32] [--epochs 4] [--search-epochs 2]

Searches once, then trains each cell at the same size and recipe from the same seed. A run that was cut off goes
on from the checkpoints in --out. Rows are in the order of test perplexity; NASWOT is the score of the untrained
network on 32 sequences of 35 tokens, and with five or more cells its rank correlation with the perplexity is
printed. Dropout is 0.1: the published rates are for networks that can learn their text by heart, and a network of
this size cannot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from harness.backends.module import module_kernel
from harness.datasets import draw_batch
from harness.datasets.text import Corpus, load_corpus
from harness.machine import versions
from harness.progress import progress_bar
from harness.scorers.naswot import log_determinant
from harness.search.base import SearchJob
from harness.search.recurrent import RecurrentRecipe, RecurrentSearch
from harness.store import Store
from harness.training.checkpoint import Checkpoint
from harness.training.language import LanguageRecipe, TrainedLanguage, train_language
from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig, RecurrentGenotype
from spaces.darts_rnn.language import DropoutRates

SPACE = DARTSRNN()
DROPOUT = DropoutRates(token=0.0, embedding=0.0, input=0.1, hidden=0.1, output=0.1)
SCORED, CORRELATED = 32, 5


def main() -> None:
    """Search, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="ptb:FOLDER or wikitext2:FOLDER")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--search-epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=20.0)
    parser.add_argument("--random", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-search", action="store_true", help="random and published cells only")
    parser.add_argument("--out", type=Path, default=Path("recurrent-table"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(exist_ok=True)
    name, _, folder = options.dataset.partition(":")
    corpus = load_corpus(name, Path(folder), None)
    config = SPACE.configure(classes=len(corpus.classes), image_size=corpus.image_size, hidden=options.hidden)
    started = time.process_time()
    cells = {} if options.no_search else {"found": found(corpus, config, options)}
    cells |= {label: SPACE.parse(label) for label in ("DARTS_V1", "DARTS_V2")}
    rng = np.random.default_rng(options.seed)
    cells |= {f"random {number}": SPACE.sample(rng) for number in range(1, options.random + 1)}
    rows = []
    for label, cell in cells.items():
        trained = training(label, cell, corpus, config, options)
        rows.append((label, trained, naswot(cell, corpus, config, options.seed), cell))
        print(f"{label}: {[round(np.exp(epoch.validation_loss), 1) for epoch in trained.curve]}", flush=True)
    unigram = [corpus.unigram_perplexity(tokens) for tokens in (corpus.tokens.validation, corpus.tokens.test)]
    print("\n| cell | validation | test | naswot | genotype |\n| --- | --- | --- | --- | --- |")
    for label, trained, score, cell in sorted(rows, key=lambda row: row[1].test_perplexity):
        nodes = " ".join(f"{activation}~{predecessor}" for activation, predecessor in cell.recurrent)
        scored = "none" if score is None else f"{score:.1f}"
        perplexities = f"{trained.validation_perplexity:.1f} | {trained.test_perplexity:.1f}"
        print(f"| {label} | {perplexities} | {scored} | {nodes} |")
    pairs = [(score, -trained.test_perplexity) for _, trained, score, _ in rows if score is not None]
    print(f"| unigram | {unigram[0]:.1f} | {unigram[1]:.1f} | | |\n")
    if len(pairs) >= CORRELATED:
        tau = kendalltau(*zip(*pairs, strict=True)).statistic
        print(f"Kendall of naswot and test perplexity, negated, over {len(pairs)} cells: {tau:.3f}")
    print(
        f"{corpus.name}: {corpus.origin}; {len(corpus.classes)} words, {100 * corpus.unknown:.1f} % of validation "
        f"and test unknown; {SPACE.complexity(cell, config).params:,} parameters; seed {options.seed}; "
        f"{options.epochs} epochs; {time.process_time() - started:.0f} s of processor time; {versions()}"
    )


def found(corpus: Corpus, config: DARTSRNNConfig, options: argparse.Namespace) -> RecurrentGenotype:
    """The cell of a first order search."""
    recipe = RecurrentRecipe(
        epochs=options.search_epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        dropout=DROPOUT,
    )
    with Store(options.out / "search.db") as store, progress_bar("search", recipe.epochs) as progress:
        job = SearchJob(SPACE, config, corpus, options.seed, "cpu", store, options.out)
        record = RecurrentSearch(recipe).run(job, progress)
    print(f"search: supernet's validation perplexity {record.validation_perplexity:.1f}, {record.seconds:.0f} s")
    return SPACE.parse(record.architecture)


def training(
    label: str, cell: RecurrentGenotype, corpus: Corpus, config: DARTSRNNConfig, options: argparse.Namespace
) -> TrainedLanguage:
    """The cell's network trained, or gone on with."""
    recipe = LanguageRecipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        evaluation_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        dropout=DROPOUT,
    )
    network = SPACE.network(cell, config, options.seed)
    belongs_to = {"architecture": str(cell), "data": corpus.fingerprint, "recipe": recipe.text()}
    checkpoint = Checkpoint(options.out / f"{label.replace(' ', '-')}.pt", belongs_to)
    return train_language(network, corpus, config, recipe, options.seed, checkpoint=checkpoint)


def naswot(cell: RecurrentGenotype, corpus: Corpus, config: DARTSRNNConfig, seed: int) -> float | None:
    """Log-determinant of the kernel of the untrained network's codes, or None without ReLUs."""
    batch = draw_batch(corpus, SCORED, seed)
    return log_determinant(
        module_kernel(FromFloats(SPACE.network(cell, config, seed)), batch.images.float())
    ).value


class FromFloats(nn.Module):
    """A network of tokens that takes them as floating-point numbers, which the kernel marks for gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Whole numbers [B, T] to logits [B, classes]."""
        logits: Tensor = self.network(tokens.long())
        return logits


if __name__ == "__main__":
    main()
