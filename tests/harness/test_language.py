"""Language models: texts, evaluation training with averaging, and the search on text."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.datasets import draw_batch
from harness.datasets.text import Corpus, columns, load_corpus, load_embedded, make_corpus
from harness.search import bilevel
from harness.search.base import SearchJob
from harness.search.recurrent import RecurrentRecipe, RecurrentSearch, recurrent_search
from harness.search.recurrent_step import Part, PartLoss, RecurrentStep
from harness.search.table import SearchTable
from harness.store import Store
from harness.training.averaging import WeightAverage, reached_plateau
from harness.training.checkpoint import Checkpoint
from harness.training.language import evaluate_text, masks_of, prepare_text, train_language
from harness.training.text_recipes import LanguageRecipe
from spaces.darts import DARTS
from spaces.darts_rnn import DARTSRNN
from spaces.darts_rnn.dropout import DropoutRates
from spaces.errors import InputError, Stopped
from spaces.supernet import Relaxation

SPACE = DARTSRNN()
MILD = DropoutRates(embedding=0, input=0.1, hidden=0.1, output=0.1)
RECIPE = LanguageRecipe(
    epochs=4,
    batch_size=20,
    evaluation_batch_size=20,
    length=6,
    jitter=2,
    learning_rate=2.0,
    dropout=MILD,
    plateau=1,
)
SEARCH = {"epochs": 2, "batch_size": 20, "length": 6, "learning_rate": 2.0}


class Counted:
    """A progress that only counts, and may do something at a count."""

    def __init__(self, at=math.inf, then=lambda: None):
        self.count, self._at, self._then = 0, at, then

    def advance(self, steps=1):
        self.count += steps
        if self.count >= self._at:
            self._then()


def words(count: int, seed: int = 0) -> list[str]:
    """A text in which every word depends on the one before it."""
    rng = np.random.default_rng(seed)
    text = ["a"]
    for _ in range(count - 1):
        text.append({"a": "bc", "b": "cd", "c": "de", "d": "ea", "e": "ab"}[text[-1]][int(rng.random() < 0.2)])
    return text


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus("chain", [words(600), words(240, 1), words(240, 2)], "made", 6)


@pytest.fixture(scope="module")
def config(corpus):
    return SPACE.configure(classes=len(corpus.classes), image_size=6, hidden=8)


def trained(corpus, config, recipe=RECIPE, cell="DARTS_V1", **options):
    network = SPACE.network(SPACE.parse(cell), config, 0)
    return train_language(network, prepare_text(corpus, recipe, config, 0, torch.device("cpu")), **options)


def write(folder, names, texts):
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(text, "utf-8")


def test_official_files_of_both_corpora_are_read(tmp_path):
    texts = [" the cat <unk> \n sat \n", " the \n", " sat \n"]
    for kind, pattern in (("ptb", "ptb.{}.txt"), ("wikitext2", "wiki.{}.tokens"), ("wikitext2", "{}.txt")):
        folder = tmp_path / pattern[:3]
        folder.mkdir()
        write(folder, [pattern.format(split) for split in ("train", "valid", "test")], texts)
        loaded = load_corpus(kind, folder, 1)
        assert loaded.classes == ("the", "cat", "<unk>", "<eos>", "sat")
        assert loaded.tokens.train.tolist() == [0, 1, 2, 3, 4, 3]
        assert loaded.tokens.test.tolist() == [4, 3]


def test_without_a_training_file_the_validation_file_trains(real_data):
    loaded = load_corpus("wikitext2", real_data / "wikitext2", None)
    assert [len(part) for part in loaded.tokens] == [217_646, 122_784, 122_785]
    assert len(loaded.classes) == 13_777
    assert 0.04 < loaded.unknown < 0.06
    assert "valid.txt trains" in loaded.origin
    assert 500 < loaded.unigram_perplexity(loaded.tokens.validation) < 620


def test_the_embedded_text_needs_no_files_and_is_always_the_same():
    first, second = load_embedded(None), load_embedded(None)
    assert first.fingerprint == second.fingerprint
    assert len(first.tokens.train) > 5000
    assert "<unk>" in first.classes


def test_words_unknown_to_the_training_text_are_read_as_unknown():
    loaded = make_corpus("x", [["a", "<unk>", "b"], ["a", "z", "b"], ["b", "b", "q"]], "made", 1)
    assert loaded.tokens.validation.tolist() == [0, 1, 2]
    assert loaded.unknown == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        ([["a", "b"], ["a", "z"], ["b", "b"]], "'z' in the validation text"),
        ([["a", "<unk>"], ["a", "a"], ["x", "y"]], "100 % of the test text"),
        ([["a"], ["a", "a"], ["a", "a"]], "training text of x has 1 tokens"),
    ],
)
def test_texts_that_do_not_fit_are_named(splits, named):
    with pytest.raises(InputError, match=named):
        make_corpus("x", splits, "made", 1)


def test_missing_empty_and_binary_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"ptb\.test\.txt or test\.txt"):
        load_corpus("ptb", tmp_path, None)
    write(tmp_path, ["train.txt", "valid.txt", "test.txt"], [" a b \n", "\n \n", " a \n"])
    with pytest.raises(InputError, match=r"valid\.txt is empty"):
        load_corpus("ptb", tmp_path, 1)
    (tmp_path / "valid.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"valid\.txt cannot be read as text"):
        load_corpus("ptb", tmp_path, 1)


def test_columns_go_on_below_each_other():
    assert columns(np.arange(11), 3, "training").tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_a_batch_larger_than_the_text_is_named():
    with pytest.raises(InputError, match="at most 5 for the 11 tokens of the training text, not 6"):
        columns(np.arange(11), 6, "training")


def test_scorers_are_given_sequences_labelled_by_the_next_token(corpus):
    batch = draw_batch(corpus, 4, 0)
    assert batch.images.shape == (4, 6)
    assert batch.images.dtype == torch.int64
    text = corpus.tokens.train.tolist()
    followed = {(*text[at : at + 6], text[at + 6]) for at in range(0, 594, 6)}
    assert {
        (*row, label) for row, label in zip(batch.images.tolist(), batch.labels.tolist(), strict=True)
    } <= followed


def test_unigram_perplexity_is_that_of_the_training_shares():
    loaded = make_corpus("x", [["a", "a", "a", "b"], ["a", "b"], ["b", "b"]], "made", 1)
    assert loaded.unigram_perplexity(loaded.tokens.validation) == pytest.approx((3 / 16) ** -0.5)


def test_parts_cover_a_text_once():
    recipe = replace(RECIPE, length=8, jitter=3.0)
    parts = recipe.parts(200, np.random.default_rng(0))
    assert [place for part in parts for place in part] == list(range(199))
    assert {len(part) for part in parts[:-1]} > {8}
    assert all(5 <= len(part) <= 28 for part in parts[:-1])


def test_evaluation_reads_every_token_once_and_carries_states(corpus, config):
    network = SPACE.network(SPACE.parse("DARTS_V1"), config, 0)
    text = columns(corpus.tokens.test, 2, "test")
    in_parts, _ = evaluate_text(network, text, 7)
    at_once, _ = evaluate_text(network, text, 1000)
    assert in_parts == pytest.approx(at_once, rel=1e-5)


def test_training_falls_below_the_unigram_model(corpus, config):
    found = trained(corpus, config, replace(RECIPE, epochs=16, learning_rate=20.0, plateau=16))
    assert found.test_perplexity < 0.8 * corpus.unigram_perplexity(corpus.tokens.test)
    best = min(found.curve, key=lambda epoch: epoch.validation_loss)
    assert found.validation_perplexity == pytest.approx(math.exp(best.validation_loss))
    assert (found.best_epoch, found.validation_accuracy) == (best.epoch, best.validation_accuracy)
    assert found.test_accuracy > 30


def test_a_resumed_training_has_the_same_bits(corpus, config, tmp_path):
    recipe = replace(RECIPE, learning_rate=40.0)
    whole = trained(corpus, config, recipe, "DARTS_V2")
    checkpoint = Checkpoint(tmp_path / "one.pt", {"seed": 0})

    def stop(epoch):
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(corpus, config, recipe, "DARTS_V2", checkpoint=checkpoint, on_epoch=stop)
    resumed = trained(corpus, config, recipe, "DARTS_V2", checkpoint=checkpoint)
    assert whole.averaged_since in (3, 4)
    assert resumed.averaged_since == whole.averaged_since
    assert resumed.test_perplexity == whole.test_perplexity
    curves = [[replace(epoch, seconds=0) for epoch in one.curve] for one in (whole, resumed)]
    assert curves[0] == curves[1]


def test_averaging_starts_after_a_plateau_and_keeps_the_mean():
    assert not reached_plateau([3.0, 2.0, 1.0], 1)
    assert not reached_plateau([1.0, 2.0], 1)
    assert reached_plateau([1.0, 2.0, 1.5], 1)
    layer = torch.nn.Linear(2, 2)
    average, seen = WeightAverage(layer), []
    average.add()
    average.start(1)
    for step in range(3):
        with torch.no_grad():
            layer.weight += step
        average.add()
        seen.append(layer.weight.detach().clone())
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), torch.stack(seen).mean(0))
    assert torch.equal(layer.weight.detach(), seen[-1])


def test_a_diverged_training_keeps_the_epochs_before_it(corpus, config, tmp_path):
    checkpoint = Checkpoint(tmp_path / "one.pt", {"seed": 0})
    network = SPACE.network(SPACE.parse("DARTS_V1"), config, 0)
    setup = prepare_text(corpus, RECIPE, config, 0, torch.device("cpu"))

    def spoil(epoch):
        if epoch.epoch == 2:
            with torch.no_grad():
                network.words.decoder.weight.fill_(torch.nan)

    with pytest.raises(Stopped, match=r"in epoch 3; the 2 epochs before it are kept"):
        train_language(network, setup, checkpoint=checkpoint, on_epoch=spoil)
    resumed = train_language(network, setup, checkpoint=checkpoint)
    assert math.isfinite(resumed.test_perplexity)


@pytest.mark.parametrize("field", ["epochs", "batch_size", "length", "clip", "slowness"])
def test_a_value_out_of_range_is_named(field):
    with pytest.raises(InputError, match=field):
        replace(RECIPE, **{field: -1})


def step_and_parts(corpus, config, **settings):
    recipe = replace(RecurrentRecipe(), batch_size=16, length=6, learning_rate=2.0, dropout=MILD, **settings)
    supernet = SPACE.supernet(config, Relaxation(), 0)
    text = columns(corpus.tokens.train, 16, "training")
    parts = [
        Part(
            text[at : at + 6],
            text[at + 1 : at + 7],
            supernet.start(16),
            masks_of(recipe, config, 16, at, text.device),
        )
        for at in (0, 20)
    ]
    return supernet, RecurrentStep(supernet, recipe), parts


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_moves_alphas_and_weights(corpus, config, order):
    supernet, step, parts = step_and_parts(corpus, config, order=order)
    before = [parameter.detach().clone() for parameter in supernet.parameters()]
    learned = step(*parts)
    assert 0 <= int(learned.right) <= 96
    assert learned.hidden.shape == learned.validation_hidden.shape == (16, 8)
    assert all(not torch.equal(a, b) for a, b in zip(before, supernet.parameters(), strict=True))


def test_the_first_order_gradient_is_that_of_the_whole_backward_pass(corpus, config):
    supernet, step, (training, validation) = step_and_parts(corpus, config)
    (ours,) = step.alpha_gradient(PartLoss(supernet, training), PartLoss(supernet, validation))
    PartLoss(supernet, validation)().backward()
    torch.testing.assert_close(ours, supernet.architecture["recurrent"].grad)


def test_the_second_order_gradient_is_that_of_the_loss_after_the_clipped_step(corpus, config, monkeypatch):
    # The published length leaves 5 % of error on so small a network: a short one shows that the formula is right.
    monkeypatch.setattr(bilevel, "PERTURBATION", 1e-6)
    supernet, step, (training, validation) = step_and_parts(corpus, config, order=2)
    supernet.double()
    with torch.no_grad():
        for weight in supernet.weights():
            weight.mul_(5)
    training, validation = (
        part._replace(hidden=part.hidden.double(), masks=type(part.masks)(*(m.double() for m in part.masks)))
        for part in (training, validation)
    )
    loss = PartLoss(supernet, training)
    (ours,) = step.alpha_gradient(loss, PartLoss(supernet, validation))
    alphas, weights = supernet.architecture["recurrent"], supernet.weights()
    shortened = 0.25 / float(torch.nn.utils.get_total_norm(torch.autograd.grad(loss(), weights)))
    assert 0 < shortened < 1

    def after_step(direction, distance):
        own = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            alphas.add_(direction, alpha=distance)
        gradients = torch.autograd.grad(loss(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 2.0 * (shortened * gradient + 5e-7 * weight)
            value = float(PartLoss(supernet, validation)())
            alphas.add_(direction, alpha=-distance)
            for weight, saved in zip(weights, own, strict=True):
                weight.copy_(saved)
        return value

    direction = torch.randn(36, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = (after_step(direction, 1e-5) - after_step(direction, -1e-5)) / 2e-5
    assert float((ours * direction).sum()) == pytest.approx(slope, rel=2e-3)


def job(corpus, config, store, folder, **changes):
    made = SearchJob(SPACE, config, corpus, 0, "cpu", store, folder)
    return replace(made, **changes)


def test_a_search_finds_a_genotype_and_says_how_good_the_supernet_was(corpus, config, tmp_path):
    with Store(tmp_path / "s.db") as store:
        progress = Counted()
        found = recurrent_search("darts-rnn", dict(SEARCH)).run(job(corpus, config, store, tmp_path), progress)
        again = recurrent_search("darts-rnn", dict(SEARCH)).run(job(corpus, config, store, tmp_path), Counted())
        epochs = SearchTable(store).epochs(1)
    assert SPACE.parse(found.architecture)
    assert found == again
    assert progress.count == len(epochs) == 2
    assert found.validation_perplexity == pytest.approx(math.exp(epochs[-1].validation_loss))
    assert found.unigram_perplexity == corpus.unigram_perplexity(corpus.tokens.validation)
    assert epochs[-1].architecture == found.architecture
    assert not list(tmp_path.glob("*.pt"))


def test_a_search_that_was_cut_off_ends_with_the_bits_of_one_that_was_not(corpus, config, tmp_path):
    settings = {**SEARCH, "order": 2}
    found = []
    for name, cut in (("whole", math.inf), ("cut", 1)):
        (tmp_path / name).mkdir()
        with Store(tmp_path / name / "s.db") as store:
            search, where = recurrent_search("darts-rnn", settings), job(corpus, config, store, tmp_path / name)

            def interrupt():
                raise KeyboardInterrupt

            if cut == 1:
                with pytest.raises(KeyboardInterrupt):
                    search.run(where, Counted(cut, interrupt))
            search.run(where, Counted())
            found.append([replace(epoch, seconds=0) for epoch in SearchTable(store).epochs(1)])
    assert found[0] == found[1]


def test_a_search_interrupted_within_an_epoch_goes_on_from_that_step(corpus, config, tmp_path):
    with Store(tmp_path / "s.db") as store:
        where = job(corpus, config, store, tmp_path)
        recipe = replace(RecurrentRecipe(), **SEARCH)
        search = RecurrentSearch(recipe)
        whole = search.start(where).next_epoch([], lambda: False)
        (tmp_path / "darts-rnn-darts-rnn-seed0.pt").unlink()
        asked = iter([False] * 3 + [True])
        with pytest.raises(KeyboardInterrupt):
            search.start(where).next_epoch([], lambda: next(asked))
        running = search.start(where)
        assert running.resume() == []
        resumed = running.next_epoch([], lambda: False)
    assert replace(resumed, seconds=0) == replace(whole, seconds=0)


def test_a_diverged_search_is_named(corpus, config, tmp_path):
    search = recurrent_search("darts-rnn", {**SEARCH, "learning_rate": 1e38})
    with Store(tmp_path / "s.db") as store:
        where = job(corpus, config, store, tmp_path)
        with pytest.raises(Stopped, match="no longer finite in epoch 1"):
            search.run(where, Counted())


def test_a_checkpoint_of_another_search_is_named_by_the_first_difference(corpus, config, tmp_path):
    with Store(tmp_path / "s.db") as store:
        where = job(corpus, config, store, tmp_path)

        def interrupt():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recurrent_search("darts-rnn", dict(SEARCH)).run(where, Counted(1, interrupt))
        with pytest.raises(InputError, match="another search: its learning_rate is"):
            recurrent_search("darts-rnn", {**SEARCH, "learning_rate": 3.0}).run(where, Counted())


def test_what_is_not_text_is_refused(corpus, config, tmp_path):
    from harness.datasets import load_dataset

    with Store(tmp_path / "s.db") as store:
        search = recurrent_search("darts-rnn", dict(SEARCH))
        with pytest.raises(InputError, match="reads text, not digits"):
            search.run(job(corpus, config, store, tmp_path, dataset=load_dataset("digits")), Counted())
        with pytest.raises(InputError, match="space darts-rnn, not darts"):
            search.run(job(corpus, config, store, tmp_path, space=DARTS()), Counted())


@pytest.mark.parametrize(("setting", "named"), [("warmup_epochs", "--warmup-epochs"), ("order", "order")])
def test_settings_that_a_search_on_text_does_not_have_are_named(setting, named):
    with pytest.raises(InputError, match=named):
        recurrent_search("darts-rnn", {setting: 3})
