"""Differentiable search: the gradients of the bilevel problem, the rules that stop it, and the command."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import done, tfnas
from torch import Tensor
from torch.func import functional_call, grad, jvp
from torch.nn import functional as F

from benchmarks.search_speed import PublishedLoop, plain
from harness.datasets import load_dataset
from harness.progress import NullProgress
from harness.search.base import SearchJob, load_method
from harness.search.bilevel import first_order_gradient, hessian_vector_product, second_order_gradient
from harness.search.epochs import EpochSearch
from harness.search.methods import DARTS, PDARTS, RECIPES, configure
from harness.search.records import SearchEpoch
from harness.search.step import SearchStep
from harness.search.stopping import SkipCount, StableRanking, first_stop
from harness.search.table import SearchTable
from harness.store import Store
from harness.workers import one_thread
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.registry import load_space
from spaces.supernet import Relaxation, Supernet, drop_running_statistics

SMALL = ("--image-size", "8", "--channels", "4", "--cells", "1", "--train-images", "64", "--batch-size", "16")


def supernet() -> Supernet[Any]:
    """A small supernet in float64, with batch statistics as in a search."""
    config = NASBench201Config(image_size=8, channels=4, cells=1)
    network = NASBench201().supernet(config, Relaxation(), seed=0).double()
    drop_running_statistics(network)
    return network.train()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64, generator=generator)
    return images, torch.randint(10, (8,), generator=generator)


class Problem:
    """Losses of a supernet on a training and a validation batch, as functions of (alphas, weights) too."""

    def __init__(self) -> None:
        self.network = supernet()
        self.alphas = self.network.alphas()
        self.weights = self.network.weights()
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        self._names = [[names[id(parameter)] for parameter in group] for group in (self.alphas, self.weights)]
        self.batches = {"training": batch(1), "validation": batch(2)}

    def loss(self, name: str) -> Tensor:
        images, labels = self.batches[name]
        return F.cross_entropy(self.network(images), labels)

    def pure_loss(self, name: str, alphas: list[Tensor], weights: list[Tensor]) -> Tensor:
        images, labels = self.batches[name]
        values = dict(zip(self._names[0] + self._names[1], [*alphas, *weights], strict=True))
        return F.cross_entropy(functional_call(self.network, values, (images,)), labels)

    def exact_product(self, vector: list[Tensor]) -> list[Tensor]:
        """Derivative along `vector` of the alphas' gradient, by forward-mode differentiation."""
        alphas, weights = ([one.detach() for one in group] for group in (self.alphas, self.weights))

        def gradient(*moved: Tensor) -> tuple[Tensor, ...]:
            return tuple(grad(lambda these: self.pure_loss("training", these, list(moved)))(alphas))

        return list(jvp(gradient, tuple(weights), tuple(vector))[1])


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


@pytest.fixture
def short_perturbation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published length crosses kinks of the ReLUs of a network as small as this one."""
    monkeypatch.setattr("harness.search.bilevel.PERTURBATION", 1e-5)


@pytest.mark.usefixtures("short_perturbation")
def test_finite_differences_agree_with_the_exact_hessian_vector_product(problem: Problem) -> None:
    vector = torch.autograd.grad(problem.loss("validation"), problem.weights)
    found = hessian_vector_product(lambda: problem.loss("training"), problem.alphas, problem.weights, vector)
    exact = problem.exact_product(list(vector))
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.linalg.norm(ours - theirs) < 1e-6 * torch.linalg.norm(theirs)
        assert torch.linalg.norm(theirs) > 0


def test_first_order_gradient_is_that_of_the_validation_loss(problem: Problem) -> None:
    found = first_order_gradient(lambda: problem.loss("validation"), problem.alphas)
    problem.loss("validation").backward()
    torch.testing.assert_close(found, [alpha.grad for alpha in problem.alphas])


@pytest.mark.usefixtures("short_perturbation")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_second_order_gradient_is_taken_after_the_step_that_sgd_would_make(momentum: float) -> None:
    problem = Problem()
    optimiser = torch.optim.SGD(problem.weights, lr=0.05, momentum=momentum, weight_decay=3e-4)
    for _ in range(2):
        optimiser.zero_grad()
        problem.loss("training").backward()
        optimiser.step()
    before = [weight.detach().clone() for weight in problem.weights]
    found = second_order_gradient(
        lambda: problem.loss("training"), lambda: problem.loss("validation"), problem.alphas, optimiser
    )
    assert all(torch.equal(weight, kept) for weight, kept in zip(problem.weights, before, strict=True))

    optimiser.zero_grad()
    problem.loss("training").backward()
    optimiser.step()
    moved = torch.autograd.grad(problem.loss("validation"), [*problem.alphas, *problem.weights])
    with torch.no_grad():
        for weight, kept in zip(problem.weights, before, strict=True):
            weight.copy_(kept)
    count = len(problem.alphas)
    product = problem.exact_product(list(moved[count:]))
    for ours, direct, curvature in zip(found, moved[:count], product, strict=True):
        expected = direct - 0.05 * curvature
        assert torch.linalg.norm(ours - expected) < 1e-6 * torch.linalg.norm(expected)
        assert torch.linalg.norm(ours - direct) > torch.linalg.norm(ours - expected)


@pytest.mark.parametrize(("space", "order"), [("nasbench201", 1), ("nasbench201", 2), ("darts", 1)])
def test_alphas_move_as_in_a_plain_port_of_the_published_loop(space: str, order: int) -> None:
    loaded = load_space(space)
    config = loaded.configure(image_size=8, channels=4, cells={"nasbench201": 1, "darts": 3}[space])
    network = loaded.supernet(config, Relaxation(), 0).double()
    drop_running_statistics(network)
    recipe = replace(DARTS, order=order)
    port, step = PublishedLoop(plain(network), recipe), SearchStep(network, recipe)
    for seed in (0, 2):
        training, validation = batch(seed), batch(seed + 1)
        port(training, validation)
        step(training, validation, 0)
    for ours, theirs in zip(network.alphas(), port.network.alphas(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# -- rules


def epoch(
    number: int, skips: int = 0, order: tuple[float, ...] = (0.3, 0.2), searching: bool = True
) -> SearchEpoch:
    """An epoch whose two learnable operations have these alphas on its one edge."""
    return SearchEpoch(
        epoch=number,
        architecture="",
        skips=skips,
        searching=searching,
        operations=("skip_connect", "nor_conv_1x1", "nor_conv_3x3"),
        learnable=("nor_conv_1x1", "nor_conv_3x3"),
        alphas={"cell": [[0.9, *order]]},
        learning_rate=0.1,
        train_loss=1.0,
        train_accuracy=50.0,
        validation_loss=1.0,
        validation_accuracy=50.0,
        seconds=float(number),
    )


def test_criterion_1_stops_at_the_first_epoch_with_too_many_skips() -> None:
    epochs = [epoch(1), epoch(2, skips=1), epoch(3, skips=2), epoch(4, skips=3)]
    stop = first_stop([SkipCount(2)], epochs)
    assert stop is not None
    assert (stop.rule, stop.epoch) == ("criterion 1", 3)
    assert stop.reason == "the derived normal cell has 2 skip-connections; the rule allows 1"
    later = first_stop([SkipCount(3)], epochs)
    assert later is not None
    assert later.epoch == 4


def test_criterion_star_counts_epochs_without_a_change_of_the_ranking() -> None:
    epochs = [epoch(1, order=(0.1, 0.2)), *[epoch(number) for number in range(2, 15)]]
    stop = first_stop([StableRanking(10)], epochs)
    assert stop is not None
    assert (stop.rule, stop.epoch) == ("criterion *", 12)
    assert first_stop([StableRanking(10)], epochs[:11]) is None


def test_values_may_change_while_the_ranking_holds() -> None:
    epochs = [epoch(number, order=(0.3 + number, 0.2)) for number in range(1, 12)]
    assert first_stop([StableRanking(10)], epochs) is not None


def test_rules_are_not_asked_while_the_alphas_rest() -> None:
    resting = [epoch(number, skips=3, searching=False) for number in range(1, 15)]
    assert first_stop([SkipCount(2), StableRanking(10)], resting) is None


# -- recipes


def test_darts_has_the_settings_of_the_published_search() -> None:
    weights = DARTS.weights
    assert (weights.epochs, weights.batch_size, weights.learning_rate, weights.final_learning_rate) == (
        50,
        64,
        0.025,
        0.001,
    )
    assert (weights.momentum, weights.weight_decay, weights.clip, weights.validation_fraction) == (
        0.9,
        3e-4,
        5.0,
        0.5,
    )
    assert (DARTS.alpha_learning_rate, DARTS.alpha_betas, DARTS.alpha_weight_decay) == (3e-4, (0.5, 0.999), 1e-3)


def test_every_recipe_has_a_text_of_its_own() -> None:
    assert len({recipe.text() for recipe in RECIPES.values()}) == len(RECIPES)


def test_skip_dropout_falls_from_epoch_to_epoch() -> None:
    rates = [PDARTS.skip_dropout(number) for number in range(PDARTS.warmup_epochs + 1, 26)]
    assert rates[0] == PDARTS.relaxation.skip_dropout
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_settings_go_where_they_belong_and_unknown_ones_are_named() -> None:
    changed = configure(DARTS, {"order": 2, "epochs": 3, "weighting": "max-w"})
    assert (changed.order, changed.weights.epochs, changed.relaxation.weighting) == (2, 3, "max-w")
    with pytest.raises(InputError, match="method darts has no setting --hidden-size"):
        configure(DARTS, {"hidden_size": 3})
    with pytest.raises(InputError, match="order of a search must be 1 or 2, not 3"):
        replace(DARTS, order=3)


# -- the command


def search(folder: Path, *arguments: object) -> Any:
    """What `tfnas search --json` prints for a small search."""
    where = ("--store", folder / "s.sqlite", "--out", folder / "out", "--json")
    return done("search", *SMALL, *where, *arguments).document


def test_search_names_architecture_rule_epoch_reason_and_seconds(tmp_path: Path) -> None:
    document = search(tmp_path, "--epochs", 2)
    assert str(NASBench201().parse(document["architecture"])) == document["architecture"]
    assert (document["rule"], document["epoch"]) == ("last epoch", 2)
    assert document["reason"] == "all 2 epochs are done"
    assert document["seconds"] > 0
    page = Path(document["page"]).read_text()
    assert document["architecture"] in page
    assert "tfnas search" in page
    assert 'src="http' not in page
    assert {path.name for path in Path(document["page"]).parent.glob("*.png")} == {"search.png", "cell.png"}


def test_curves_can_be_read_back_by_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    search(tmp_path, "--epochs", 2, "--tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    with Store(tmp_path / "s.sqlite") as store:
        epochs = SearchTable(store).epochs(1)
    for name in ("train_loss", "validation_loss", "skips"):
        points = [(point.step, point.value) for point in events.Scalars(name)]
        assert [step for step, _ in points] == [1, 2]
        assert [value for _, value in points] == pytest.approx([getattr(epoch, name) for epoch in epochs])
    assert "mean alpha cell/skip_connect" in events.Tags()["scalars"]


def test_what_some_epochs_derive_is_trained_for_the_page(tmp_path: Path) -> None:
    document = search(tmp_path, "--epochs", 1, "--evaluate", 1, "--evaluate-recipe", "tiny", "--workers", 1)
    page = Path(document["page"]).read_text()
    assert "trained by the recipe tiny" in page
    with Store(tmp_path / "s.sqlite") as store:
        (context,) = store.training_contexts()
        accuracies = {f"{record.test_accuracy:.2f}" for record in store.trainings(context).values()}
    assert accuracies
    assert all(f"<span>{accuracy}</span>" in page for accuracy in accuracies)


def test_the_same_search_again_finds_its_answer_in_the_store(tmp_path: Path) -> None:
    first = search(tmp_path, "--epochs", 1, "--order", 2)
    assert search(tmp_path, "--epochs", 1, "--order", 2) == first


def epochs_with(threads: int, folder: Path) -> list[SearchEpoch]:
    """Epochs of a small search, begun with torch allowed so many threads."""
    config = NASBench201Config(input_channels=1, image_size=8, channels=4, cells=1)
    images = load_dataset("digits", image_size=8)
    method = load_method("darts", {"epochs": 2, "train_images": 64, "batch_size": 32})
    torch.set_num_threads(threads)
    try:
        with Store(folder / f"{threads}.sqlite") as store:
            method.run(SearchJob(NASBench201(), config, images, 0, "cpu", store, folder), NullProgress())
            return [replace(epoch, seconds=0.0) for epoch in SearchTable(store).epochs(1)]
    finally:
        torch.set_num_threads(1)


def test_the_bits_of_a_search_do_not_depend_on_threads(tmp_path: Path) -> None:
    assert epochs_with(1, tmp_path) == epochs_with(2, tmp_path)


def small_job(store: Store, folder: Path) -> SearchJob:
    config = NASBench201Config(input_channels=1, image_size=8, channels=4, cells=1)
    folder.mkdir(exist_ok=True)
    return SearchJob(NASBench201(), config, load_dataset("digits", image_size=8), 0, "cpu", store, folder)


def small_search(**settings: Any) -> EpochSearch:
    method = load_method("darts", {"epochs": 2, "train_images": 64, "batch_size": 32, **settings})
    assert isinstance(method, EpochSearch)
    return method


def searched(folder: Path, **settings: Any) -> list[SearchEpoch]:
    """Epochs of a search that goes on from the checkpoint of the folder, if there is one."""
    with Store(folder / "s.sqlite") as store:
        small_search(**settings).run(small_job(store, folder), NullProgress())
        return [replace(epoch, seconds=0.0) for epoch in SearchTable(store).epochs(1)]


def search_one_epoch(folder: Path, **settings: Any) -> None:
    """Leave the checkpoint of a search that was killed after its first epoch."""
    folder.mkdir()
    with Store(folder / "killed.sqlite") as store, one_thread():
        small_search(**settings).start(small_job(store, folder)).next_epoch([], lambda: False)


def test_a_search_that_was_killed_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    search_one_epoch(tmp_path / "killed", order=2)
    (tmp_path / "whole").mkdir()
    assert searched(tmp_path / "killed", order=2) == searched(tmp_path / "whole", order=2)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"order": 2}, "its order is 1, here 2"),
        ({"batch_size": 16}, "its batch_size is 32, here 16"),
        ({"weighting": "max-w"}, "its weighting is softmax, here max-w"),
    ],
)
def test_a_checkpoint_of_another_search_is_named_by_the_difference(
    tmp_path: Path, changed: dict[str, Any], difference: str
) -> None:
    search_one_epoch(tmp_path / "out")
    with pytest.raises(InputError, match=f"belongs to another search: {difference}"):
        searched(tmp_path / "out", **changed)


def test_a_stopped_search_says_which_rule_and_when(tmp_path: Path) -> None:
    document = search(tmp_path, "--method", "darts+stable", "--stable-epochs", 1, "--epochs", 6)
    assert document["rule"] in ("criterion *", "last epoch")
    assert document["epoch"] <= 6
    past = search(tmp_path, "--method", "darts+stable", "--stable-epochs", 1, "--epochs", 6, "--past-stop")
    assert (past["architecture"], past["epoch"]) == (document["architecture"], document["epoch"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "dart"), "tfnas: unknown method 'dart'; allowed: darts, "),
        (("--order", 3), "tfnas: order of a search must be 1 or 2, not 3"),
        (("--weighting", "hard"), "tfnas: unknown weighting 'hard'; allowed: softmax, max-w"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    small = ("--image-size", "8", "--batch-size", "16")
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out")
    outcome = tfnas("search", *small, *where, *arguments)
    assert outcome.code == 2
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith("search ")]
    assert line.startswith(message)


def test_too_few_images_for_two_halves_are_named(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(256, size=(3, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(3)
    np.savez(
        tmp_path / "few.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out")
    outcome = tfnas("search", "--dataset", f"npz:{tmp_path / 'few.npz'}", *where)
    assert outcome.code == 2
    assert "needs 2 to train on, 1 to validate and 1 to test" in outcome.err


def test_a_loss_that_is_not_finite_stops_the_search_and_keeps_what_was_done(tmp_path: Path) -> None:
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out")
    outcome = tfnas("search", *SMALL, *where, "--epochs", 2, "--learning-rate", 1e30)
    assert outcome.code == 3
    assert "the loss is no longer finite in epoch" in outcome.err


def test_what_is_printed_trains(tmp_path: Path) -> None:
    found = search(tmp_path, "--epochs", 1)["architecture"]
    small = ("--image-size", "8", "--channels", "4", "--cells", "1", "--train-images", "32", "--epochs", "1")
    outcome = done("train", "--genotype", found, *small, "--store", tmp_path / "s.sqlite", "--json")
    assert json.loads(outcome.out)["trained"] == 1


def test_evolution_by_a_score_names_its_fitness_and_continues(tmp_path: Path) -> None:
    small = ("--image-size", "8", "--channels", "4", "--cells", "1", "--population", 4, "--steps", 8)
    where = ("--store", tmp_path / "s.sqlite", "--out", tmp_path / "out", "--json")
    document = done("search", "--method", "evolution", "--fitness", "naswot", *small, *where).document
    assert document["evaluated"] <= 8
    assert document["fitness"] > 0
    again = done("search", "--method", "evolution", "--fitness", "naswot", *small, *where).document
    assert (again["architecture"], again["evaluated"]) == (document["architecture"], 0)


def test_the_darts_recipe_trains_a_genotype_with_its_auxiliary_head(tmp_path: Path, real_data: Path) -> None:
    images = ("--dataset", f"npz:{real_data / 'cifar10_subset.npz'}", "--train-images", "8", "--batch-size", "4")
    small = ("--epochs", "1", "--channels", "2", "--cells", "3", "--processes", "1")
    store = ("--store", tmp_path / "s.sqlite", "--json")
    document = done(
        *("train", "--space", "darts", "--genotype", "DARTS_V2", "--recipe", "darts-cifar"),
        *images,
        *small,
        *store,
    ).document
    assert document["trained"] == 1
