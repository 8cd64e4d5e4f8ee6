"""Recurrent cells by command: search, training, scores and the errors of all three."""

import math
from pathlib import Path

import numpy as np
import pytest
from test_cli import done, tfnas
from test_language import words

from spaces.darts_rnn import DARTSRNN

SPACE = DARTSRNN()
SMALL = ("--space", "darts-rnn", "--hidden", 4, "--image-size", 12)
FAST = ("--epochs", 1, "--batch-size", 30)
V1 = str(SPACE.parse("DARTS_V1"))
NO_RELU = V1.replace("relu", "tanh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Official files of a text in which every word depends on the one before it."""
    made = tmp_path_factory.mktemp("chain")
    for seed, split in enumerate(("train", "valid", "test")):
        (made / f"{split}.txt").write_text(" ".join(words(600 if split == "train" else 240, seed)) + "\n")
    return made


def in_store(folder: Path, path: Path) -> tuple[object, ...]:
    return ("--dataset", f"wikitext2:{folder}", "--store", path / "s.sqlite")


def test_a_search_prints_genotype_and_perplexities_and_draws_the_cell(folder, tmp_path):
    command = ("search", *SMALL, *FAST, *in_store(folder, tmp_path), "--out", tmp_path / "out", "--json")
    document = done(*command, "--order", 2, "--dropout", 0.1).document
    assert str(SPACE.parse(document["genotype"])) == document["genotype"] == document["architecture"]
    assert 1 < document["validation_perplexity"] < math.inf
    assert document["unigram_perplexity"] == pytest.approx(5, rel=0.3)
    assert (tmp_path / "out" / "cell.png").is_file()
    again = done(*command, "--order", 2, "--dropout", 0.1).document
    assert again == document


def test_training_prints_perplexities_beside_those_of_the_unigram_model(folder, tmp_path):
    cells = ("--genotype", "DARTS_V1", "--genotype", NO_RELU)
    command = ("train", *SMALL, *FAST, *in_store(folder, tmp_path), *cells)
    document = done(*command, "--processes", 1, "--json").document
    assert [found["genotype"] for found in document["perplexities"]] == [V1, NO_RELU]
    for found in document["perplexities"]:
        assert 1 < found["test"] < math.inf
        assert found["averaged_since"] is None
    again = done(*command).out
    assert "2 cached" in again
    assert f"test {document['perplexities'][0]['test']:.1f}" in again


def test_cells_with_relus_are_scored_on_sequences_and_beside_their_trainings(folder, tmp_path):
    rng = np.random.default_rng(0)
    cells = tmp_path / "cells.txt"
    cells.write_text("\n".join([V1, "DARTS_V2", NO_RELU, *(str(SPACE.sample(rng)) for _ in range(2))]))
    where = (*SMALL, *in_store(folder, tmp_path), "--architectures", cells, "--processes", 1)
    scored = done("score", *where, "--batch-size", 8, "--scorer", "naswot", "--scorer", "snip", "--json").document
    assert scored["scorers"]["naswot"]["unscored"]["no counted ReLU"] == 1
    assert scored["scorers"]["snip"]["scored"] == 5
    done("train", *where, "--epochs", 1, "--batch-size", 30)
    table = done("correlate", "--space", "darts-rnn", "--store", tmp_path / "s.sqlite", "--truth", "trained").out
    assert "snip" in table


@pytest.mark.parametrize(
    ("command", "options", "named"),
    [
        ("search", ("--batch-size", 400), "batch_size must be at most 300 for the 601 tokens"),
        ("search", ("--batch-size", 1), "at least 2 for batch norm"),
        ("search", ("--method", "darts"), "is a text, and recipe darts-weights is for images"),
        ("search", ("--warmup-epochs", 2), "method darts-rnn has no setting --warmup-epochs"),
        ("search", ("--dropout", 1.0), "dropout of input must be at least 0 and below 1"),
        ("search", ("--channels", 8), "space darts-rnn has no setting 'channels'"),
        ("search", ("--dataset", "digits"), "space darts-rnn reads text, but --dataset digits holds images"),
        ("train", ("--batch-size", 400), "batch_size must be at most 300"),
        ("train", ("--recipe", "darts-cifar"), "allowed: darts-ptb, darts-wikitext2, small"),
        ("train", ("--train-images", 8), "recipe small for text has no setting --train-images"),
        ("train", ("--genotype", "DARTS_V9"), "expected DARTS_V1, DARTS_V2"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_it(folder, tmp_path, command, options, named):
    chosen = ("--genotype", "DARTS_V1") if command == "train" and "--genotype" not in options else ()
    out = ("--out", tmp_path / "out") if command == "search" else ()
    outcome = tfnas(command, *SMALL, *in_store(folder, tmp_path), *chosen, *out, *options)
    assert outcome.code == 2
    assert named in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("split", "text", "named"),
    [
        ("valid", "\n \n", "valid.txt is empty"),
        ("test", "a b c d e zebra " * 10, "'zebra' in the test text"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder, tmp_path, split, text, named):
    for other in ("train", "valid", "test"):
        (tmp_path / f"{other}.txt").write_text(text if other == split else (folder / f"{other}.txt").read_text())
    outcome = tfnas("train", *SMALL, *in_store(tmp_path, tmp_path), "--genotype", "DARTS_V1")
    assert outcome.code == 2
    assert named in outcome.err
    assert not (tmp_path / "s.sqlite").exists()


def test_a_loss_that_diverges_stops_with_code_3_and_what_was_trained_is_kept(folder, tmp_path):
    where = ("train", *SMALL, *FAST, *in_store(folder, tmp_path), "--processes", 1)
    done(*where, "--genotype", "DARTS_V1")
    stopped = tfnas(*where, "--genotype", "DARTS_V2", "--learning-rate", 1e38)
    assert stopped.code == 3
    assert "the loss is no longer finite in epoch 1" in stopped.err
    assert "1 cached" in done(*where, "--genotype", "DARTS_V1").out


def test_images_have_no_dropout_and_spaces_of_images_no_text(tmp_path):
    store = ("--store", tmp_path / "s.sqlite")
    outcome = tfnas("train", "--sample", 1, "--dropout", 0.1, *store)
    assert (outcome.code, outcome.err) == (2, "tfnas: recipe small for images has no setting --dropout\n")
    outcome = tfnas("score", "--dataset", "text", "--sample", 1, *store)
    assert (outcome.code, outcome.err) == (
        2,
        "tfnas: space nasbench201 reads images, but --dataset text holds text\n",
    )
