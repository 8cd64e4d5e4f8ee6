import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.datasets import Dataset, load_dataset
from harness.progress import NullProgress
from harness.records import Epoch
from harness.store import Store
from harness.training.checkpoint import Checkpoint
from harness.training.images import TrainingSetup, crop_and_flip, hold_out, prepare_training
from harness.training.recipes import Recipe, load_recipe, recipe_names
from harness.training.run import TrainingJob, TrainingSummary, train_architectures
from harness.training.trainer import TrainedAccuracy, train
from harness.workers import one_thread
from spaces.errors import InputError
from spaces.nasbench201 import Cell, NASBench201Config
from spaces.registry import load_space

CPU = torch.device("cpu")
SPACE = load_space("nasbench201")
CONFIG = NASBench201Config(input_channels=1, image_size=8, classes=2, channels=2, cells=1)
TWO_CONVOLUTIONS = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
ONLY_SKIP = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
ONLY_SKIP_BY_NODE_1 = "|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
ONLY_POOL = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def recipe(**overrides: float) -> Recipe:
    return load_recipe("small", **{"epochs": 6, "batch_size": 16, "crop_padding": 1, **overrides})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vertical or horizontal stripes in noise, 8x8, one channel: 80 to train and validate, 40 to test."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 2
        vertical = np.tile(np.arange(8) % 2 * 100, (8, 1))
        stripes = np.where(labels[:, None, None] == 0, vertical, vertical.T)
        noise = rng.integers(0, 100, size=(count, 8, 8))
        return (stripes + noise).astype(np.uint8), labels

    images, labels = draw(120)
    path = tmp_path_factory.mktemp("images") / "stripes.npz"
    np.savez(
        path,
        train_images=images[:80],
        train_labels=labels[:80],
        test_images=images[80:],
        test_labels=labels[80:],
    )
    return path


@pytest.fixture(scope="session")
def stripes(image_file: Path) -> Dataset:
    return load_dataset(f"npz:{image_file}", image_size=8)


@pytest.fixture
def job(image_file: Path) -> TrainingJob:
    return TrainingJob(
        space="nasbench201",
        config=CONFIG,
        recipe=recipe(epochs=2),
        seed=0,
        dataset=f"npz:{image_file}",
        data_dir=Path("data"),
        image_size=8,
        device="cpu",
    )


class DropoutNetwork(nn.Module):
    """A network that draws random numbers while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def cell_network(text: str = TWO_CONVOLUTIONS, config: NASBench201Config = CONFIG, seed: int = 0) -> nn.Module:
    return SPACE.network(SPACE.parse(text), config, seed)


def train_here(network: nn.Module, dataset: Dataset, used: Recipe, **options: object) -> TrainedAccuracy:
    return train(network, prepare_training(dataset, used, 0, CPU), **options)


def without_seconds(curve: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in curve]


def weights(network: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in network.state_dict().items()}


class Killed(Exception):
    pass


def kill_after(number: int):
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise Killed

    return on_epoch


class TestRecipes:
    def test_the_benchmarks_recipe_is_the_published_one(self) -> None:
        published = load_recipe("nasbench201-200")
        assert (published.epochs, published.batch_size, published.learning_rate) == (200, 256, 0.1)
        assert (published.momentum, published.nesterov, published.weight_decay) == (0.9, True, 5e-4)
        assert (published.crop_padding, published.flip, published.validation_fraction) == (4, True, 0.5)
        assert load_recipe("nasbench201-12") == replace(published, name="nasbench201-12", epochs=12)

    def test_every_name_loads_and_has_a_description(self) -> None:
        for name, description in recipe_names().items():
            assert load_recipe(name).name == name
            assert description

    def test_overrides_of_none_keep_the_recipes_value(self) -> None:
        assert load_recipe("small", epochs=None, batch_size=8) == replace(load_recipe("small"), batch_size=8)

    def test_unknown_name_lists_what_is_allowed(self) -> None:
        with pytest.raises(InputError, match=f"'large'; allowed: {', '.join(recipe_names())}$"):
            load_recipe("large")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("epochs", 0),
            ("batch_size", 1),
            ("learning_rate", 0.0),
            ("learning_rate", math.nan),
            ("momentum", 1.0),
            ("momentum", 0.0),
            ("weight_decay", -1.0),
            ("crop_padding", -1),
            ("validation_fraction", 0.0),
            ("validation_fraction", 1.0),
            ("train_images", 1),
        ],
    )
    def test_value_out_of_range_names_the_field(self, field: str, value: float) -> None:
        with pytest.raises(InputError, match=f"{field} of a recipe must be"):
            load_recipe("small", **{field: value})

    def test_text_holds_every_field(self) -> None:
        assert Recipe(**json.loads(recipe(epochs=3).text())) == recipe(epochs=3)


class TestImages:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 3), st.booleans(), st.integers(0, 2**32))
    def test_each_crop_is_a_window_of_the_padded_image_mirrored_or_not(
        self, padding: int, flip: bool, seed: int
    ) -> None:
        pixels = torch.arange(1, 1 + 5 * 2 * 4 * 4, dtype=torch.uint8).reshape(5, 2, 4, 4)
        results = crop_and_flip(pixels, padding, flip, np.random.default_rng(seed))
        for image, result in zip(pixels.numpy(), results.numpy(), strict=True):
            padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
            windows = [
                padded[:, top : top + 4, left : left + 4]
                for top in range(2 * padding + 1)
                for left in range(2 * padding + 1)
            ]
            mirrored = [window[:, :, ::-1] for window in windows] if flip else []
            assert any(np.array_equal(result, allowed) for allowed in windows + mirrored)

    def test_about_half_is_mirrored_and_every_shift_occurs(self) -> None:
        pixels = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3).expand(2000, 1, 3, 3)
        mirrored = crop_and_flip(pixels, 0, True, np.random.default_rng(0))
        assert (mirrored[:, 0, 0, 0] == 3).float().mean().item() == pytest.approx(0.5, abs=0.05)
        centres = crop_and_flip(pixels, 1, False, np.random.default_rng(0))[:, 0, 1, 1]
        assert centres.bincount().tolist()[1:] == pytest.approx([2000 / 9] * 9, rel=0.3)

    def test_train_and_validation_share_no_image_and_leave_none_out(self, stripes: Dataset) -> None:
        training, validation = hold_out(stripes, recipe(validation_fraction=0.25), 0)
        assert (len(training), len(validation)) == (60, 20)
        assert sorted([*training, *validation]) == list(range(80))
        assert not np.array_equal(validation, hold_out(stripes, recipe(validation_fraction=0.25), 1)[1])

    def test_train_images_takes_from_the_training_part_only(self, stripes: Dataset) -> None:
        everything, validation = hold_out(stripes, recipe(), 0)
        some, same_validation = hold_out(stripes, recipe(train_images=10), 0)
        assert some.tolist() == everything[:10].tolist()
        assert same_validation.tolist() == validation.tolist()

    def test_too_few_images_says_what_is_needed(self, stripes: Dataset) -> None:
        with pytest.raises(InputError, match=r"has 80 training and 40 test images; .* needs 2 to train on"):
            hold_out(stripes, recipe(validation_fraction=0.99), 0)

    def test_an_epoch_shows_every_training_image_once_with_its_label(self, stripes: Dataset) -> None:
        setup = prepare_training(stripes, recipe(crop_padding=0, flip=False), 0, CPU)
        indices, _ = hold_out(stripes, setup.recipe, 0)
        expected = pairs(stripes.normalise(stripes.train.fetch(indices)), stripes.train.labels[indices])
        seen = epoch_of(setup)
        assert sorted(seen) == sorted(expected)
        assert seen != expected

    def test_a_last_single_image_is_left_out(self, stripes: Dataset) -> None:
        setup = prepare_training(stripes, recipe(train_images=33), 0, CPU)
        assert [len(labels) for _, labels in setup.batches(np.random.default_rng(0))] == [16, 16]
        assert setup.steps_per_epoch == 2

    def test_images_too_many_to_keep_are_fetched_with_the_same_pixels(
        self, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = epoch_of(prepare_training(stripes, recipe(), 0, CPU))
        monkeypatch.setattr("harness.training.images.PRELOAD_BYTES", 100)
        assert epoch_of(prepare_training(stripes, recipe(), 0, CPU)) == kept


def pairs(images: Tensor, labels: Tensor) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]


def epoch_of(setup: TrainingSetup) -> list[tuple[bytes, int]]:
    return [pair for batch in setup.batches(np.random.default_rng(0)) for pair in pairs(*batch)]


class TestOneTraining:
    def test_learns_what_can_be_learned(self, stripes: Dataset) -> None:
        learned = train_here(cell_network(), stripes, recipe(epochs=8))
        assert learned.validation_accuracy >= 90
        assert learned.test_accuracy >= 90
        assert learned.curve[-1].train_loss < learned.curve[0].train_loss
        assert learned.validation_accuracy == learned.curve[-1].validation_accuracy

    def test_learning_rate_falls_from_the_recipes_to_zero_by_a_cosine(self, stripes: Dataset) -> None:
        used = recipe(epochs=4, learning_rate=0.2)
        rates = [epoch.learning_rate for epoch in train_here(cell_network(), stripes, used).curve]
        assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * done / 4)) for done in range(4)])

    def test_same_seed_gives_the_same_bits_and_another_seed_does_not(self, stripes: Dataset) -> None:
        first, again, other = (
            train(cell_network(), prepare_training(stripes, recipe(epochs=1), seed, CPU)) for seed in (0, 0, 1)
        )
        assert without_seconds(first.curve) == without_seconds(again.curve)
        assert without_seconds(first.curve) != without_seconds(other.curve)

    @pytest.mark.parametrize("make_network", [cell_network, DropoutNetwork])
    def test_six_epochs_equal_three_a_kill_and_three_to_the_bit(
        self, stripes: Dataset, tmp_path: Path, make_network
    ) -> None:
        whole_network = make_network()
        whole = train_here(whole_network, stripes, recipe())
        checkpoint = Checkpoint(tmp_path / "one.pt", {"architecture": "this"})
        with pytest.raises(Killed):
            train_here(make_network(), stripes, recipe(), checkpoint=checkpoint, on_epoch=kill_after(3))
        resumed_network, epochs = make_network(), []
        resumed = train_here(
            resumed_network, stripes, recipe(), checkpoint=checkpoint, on_epoch=lambda epoch: epochs.append(epoch)
        )
        assert [epoch.epoch for epoch in epochs] == [4, 5, 6]
        assert without_seconds(resumed.curve) == without_seconds(whole.curve)
        assert weights(resumed_network) == weights(whole_network)
        assert resumed[:2] == whole[:2]
        assert all(later.seconds > earlier.seconds for earlier, later in pairwise(epochs))

    def test_global_random_state_is_left_alone(self, stripes: Dataset) -> None:
        network = DropoutNetwork()
        before = torch.random.get_rng_state()
        train_here(network, stripes, recipe(epochs=1))
        assert torch.equal(before, torch.random.get_rng_state())

    def test_divergence_ends_the_training_at_chance(self, stripes: Dataset) -> None:
        diverged = train_here(cell_network(), stripes, recipe(learning_rate=1e30))
        assert len(diverged.curve) < 6
        assert math.isnan(diverged.curve[-1].train_loss)
        assert 20 <= diverged.test_accuracy <= 80

    def test_digits_are_never_mirrored(self) -> None:
        digits = load_dataset("digits", image_size=8)
        curves = [
            train_here(
                SPACE.network(SPACE.parse(ONLY_SKIP), replace(CONFIG, classes=10), 0),
                digits,
                recipe(epochs=1, train_images=200, batch_size=100, flip=flip),
            ).curve
            for flip in (True, False)
        ]
        assert without_seconds(curves[0]) == without_seconds(curves[1])

    def test_network_for_other_images_says_what_fails(self, stripes: Dataset) -> None:
        colour = cell_network(config=replace(CONFIG, input_channels=3))
        with pytest.raises(InputError, match=r"on images of shape \(1, 8, 8\) fails: .*channels"):
            train_here(colour, stripes, recipe())

    def test_network_for_other_classes_says_what_is_expected(self, stripes: Dataset) -> None:
        with pytest.raises(InputError, match=r"returns shape \(1, 5\); expected \(1, 2\)"):
            train_here(cell_network(config=replace(CONFIG, classes=5)), stripes, recipe())


class TestCheckpoint:
    @pytest.fixture
    def saved(self, stripes: Dataset, tmp_path: Path) -> Checkpoint:
        checkpoint = Checkpoint(tmp_path / "one.pt", {"architecture": "this", "seed": 0})
        train_here(cell_network(), stripes, recipe(epochs=1), checkpoint=checkpoint)
        return checkpoint

    def test_of_another_training_names_the_first_difference(self, saved: Checkpoint, stripes: Dataset) -> None:
        other = replace(saved, belongs_to={"architecture": "this", "seed": 7})
        with pytest.raises(InputError, match=r"one.pt belongs to another training: its seed is 0, here 7"):
            train_here(cell_network(), stripes, recipe(), checkpoint=other)

    def test_of_a_wider_network_names_the_first_weight(self, saved: Checkpoint, stripes: Dataset) -> None:
        wider = cell_network(config=replace(CONFIG, channels=3))
        with pytest.raises(InputError, match=r"shape of its stem.weight is \(2, 1, 3, 3\), here \(3, 1, 3, 3\)"):
            train_here(wider, stripes, recipe(), checkpoint=saved)

    def test_of_a_network_with_fewer_weights_says_which_is_absent(
        self, saved: Checkpoint, stripes: Dataset
    ) -> None:
        with pytest.raises(InputError, match=r"shape of its cells\..* is \(.*\), here absent"):
            train_here(cell_network(ONLY_SKIP), stripes, recipe(), checkpoint=saved)

    @pytest.mark.parametrize("damage", [lambda whole: whole[:-300], lambda whole: b"", lambda whole: b"text"])
    def test_damaged_file_is_named(self, saved: Checkpoint, stripes: Dataset, damage) -> None:
        saved.path.write_bytes(damage(saved.path.read_bytes()))
        with pytest.raises(InputError, match=r"one.pt is damaged"):
            train_here(cell_network(), stripes, recipe(), checkpoint=saved)

    def test_file_of_something_else_is_named(self, saved: Checkpoint, stripes: Dataset) -> None:
        torch.save({"weights": torch.zeros(1)}, saved.path)
        with pytest.raises(InputError, match=r"one.pt is damaged or not a checkpoint"):
            train_here(cell_network(), stripes, recipe(), checkpoint=saved)

    def test_folder_that_is_not_there_is_said(self, stripes: Dataset, tmp_path: Path) -> None:
        nowhere = Checkpoint(tmp_path / "absent" / "one.pt", {})
        with pytest.raises(InputError, match=r"one.pt cannot be written: No such file or directory"):
            train_here(cell_network(), stripes, recipe(epochs=1), checkpoint=nowhere)

    def test_nothing_but_the_file_is_left_and_remove_deletes_it(self, saved: Checkpoint) -> None:
        assert list(saved.path.parent.iterdir()) == [saved.path]
        saved.path.with_name("one.pt.123").write_bytes(b"left by a killed process")
        saved.remove()
        assert list(saved.path.parent.iterdir()) == []


def cells(*texts: str) -> list[Cell]:
    return [SPACE.parse(text) for text in texts]


def train_into(folder: Path, job: TrainingJob, *texts: str, processes: int = 1) -> TrainingSummary:
    with Store(folder / "store.db") as store:
        return train_architectures(
            job,
            cells(*texts),
            store,
            checkpoints=folder / "checkpoints",
            processes=processes,
            progress=NullProgress(),
        )


def stored(folder: Path) -> dict[str, tuple[float, float, list[Epoch]]]:
    with Store(folder / "store.db", create=False) as store:
        return {
            text: (record.validation_accuracy, record.test_accuracy, without_seconds(record.curve))
            for context in store.training_contexts()
            for text, record in store.trainings(context).items()
        }


class Counting:
    """Progress that only counts."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, count: int = 1) -> None:
        self.done += count


class TestManyTrainings:
    def test_store_holds_each_representative_once(self, tmp_path: Path, job: TrainingJob) -> None:
        summary = train_into(tmp_path, job, ONLY_SKIP, ONLY_POOL, ONLY_SKIP_BY_NODE_1)
        assert (summary.asked, summary.trained, summary.cached, summary.equal) == (3, 2, 0, 1)
        assert not summary.interrupted
        results = stored(tmp_path)
        assert list(results) == sorted(str(SPACE.canonical(cell, "live")) for cell in cells(ONLY_SKIP, ONLY_POOL))
        assert all([epoch.epoch for epoch in curve] == [1, 2] for _, _, curve in results.values())
        assert list((tmp_path / "checkpoints").iterdir()) == []

    def test_context_says_what_the_trainings_depend_on(
        self, tmp_path: Path, job: TrainingJob, stripes: Dataset
    ) -> None:
        train_into(tmp_path, job, NOTHING)
        with Store(tmp_path / "store.db") as store:
            (context,) = store.training_contexts().values()
        assert Recipe(**json.loads(context.recipe)) == job.recipe
        assert NASBench201Config(**json.loads(context.settings)) == CONFIG
        assert (context.space, context.seed, context.data) == ("nasbench201", 0, stripes.fingerprint)

    def test_nothing_is_trained_twice_whatever_the_path_of_the_data(
        self, tmp_path: Path, job: TrainingJob, image_file: Path
    ) -> None:
        train_into(tmp_path, job, ONLY_SKIP)
        moved = tmp_path / "moved.npz"
        moved.write_bytes(image_file.read_bytes())
        again = train_into(tmp_path, replace(job, dataset=f"npz:{moved}"), ONLY_SKIP, ONLY_POOL)
        assert (again.trained, again.cached) == (1, 1)

    def test_another_seed_is_another_training(self, tmp_path: Path, job: TrainingJob) -> None:
        train_into(tmp_path, job, ONLY_SKIP)
        assert train_into(tmp_path, replace(job, seed=1), ONLY_SKIP).trained == 1

    def test_two_processes_give_the_bits_of_one(self, tmp_path: Path, job: TrainingJob) -> None:
        for processes in (1, 2):
            (tmp_path / str(processes)).mkdir()
            train_into(tmp_path / str(processes), job, TWO_CONVOLUTIONS, ONLY_SKIP, NOTHING, processes=processes)
        assert stored(tmp_path / "1") == stored(tmp_path / "2")

    def test_progress_reaches_all_that_was_asked(self, tmp_path: Path, job: TrainingJob) -> None:
        progress = Counting()
        with Store(tmp_path / "store.db") as store:
            train_architectures(
                job,
                cells(ONLY_SKIP, ONLY_SKIP_BY_NODE_1, NOTHING),
                store,
                checkpoints=tmp_path / "checkpoints",
                processes=1,
                progress=progress,
            )
        assert progress.done == 3

    def test_interrupt_keeps_what_is_done_and_leaves_no_worker(self, tmp_path: Path, job: TrainingJob) -> None:
        class InterruptAfterFirst:
            """Ctrl-C in a terminal: every process gets the signal."""

            def __init__(self) -> None:
                self.done = 0

            def advance(self, count: int = 1) -> None:
                self.done += count
                if self.done == 1:
                    for worker in multiprocessing.active_children():
                        os.kill(worker.pid or 0, signal.SIGINT)
                    signal.raise_signal(signal.SIGINT)

        with Store(tmp_path / "store.db") as store:
            summary = train_architectures(
                job,
                cells(TWO_CONVOLUTIONS, ONLY_SKIP, ONLY_POOL, NOTHING),
                store,
                checkpoints=tmp_path / "checkpoints",
                processes=2,
                progress=InterruptAfterFirst(),
            )
        assert (summary.interrupted, summary.trained) == (True, 1)
        assert len(stored(tmp_path)) == 1
        assert multiprocessing.active_children() == []

    def test_diverged_training_is_stored(self, tmp_path: Path, job: TrainingJob) -> None:
        diverging = replace(job, recipe=replace(job.recipe, learning_rate=1e30))
        assert train_into(tmp_path, diverging, TWO_CONVOLUTIONS).trained == 1
        assert len(stored(tmp_path)) == 1

    def test_config_for_other_images_names_the_field(self, tmp_path: Path, job: TrainingJob) -> None:
        with pytest.raises(InputError, match=r"classes of the networks is 10, but npz:.* has 2"):
            train_into(tmp_path, replace(job, config=replace(CONFIG, classes=10)), ONLY_SKIP)

    def test_checkpoint_folder_that_cannot_be_made_is_named(self, tmp_path: Path, job: TrainingJob) -> None:
        (tmp_path / "checkpoints").write_text("a file is in the way")
        with pytest.raises(InputError, match=r"--checkpoints .* cannot be made"):
            train_into(tmp_path, job, ONLY_SKIP)


SCRIPT = """
import pickle
from pathlib import Path
from harness.progress import NullProgress
from harness.store import Store
from harness.training.run import train_architectures

if __name__ == "__main__":
    job, cells = pickle.loads(Path("job.pickle").read_bytes())
    with Store(Path("store.db")) as store:
        train_architectures(
            job, cells, store, checkpoints=Path("checkpoints"), processes=2, progress=NullProgress()
        )
"""


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_after_kill_9_no_worker_is_left_and_the_next_run_resumes_to_the_same_bits(
    tmp_path: Path, job: TrainingJob
) -> None:
    long = replace(job, recipe=recipe(epochs=40))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "job.pickle").write_bytes(pickle.dumps((long, cells(TWO_CONVOLUTIONS))))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    script = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment)
    wait_until(lambda: any(tmp_path.glob("checkpoints/*.pt")))
    workers = children(script.pid)
    script.kill()
    script.wait()
    assert workers
    wait_until(lambda: not any(runs(worker) for worker in workers))
    (kept,) = tmp_path.glob("checkpoints/*.pt")
    assert 0 < len(torch.load(kept, weights_only=True)["curve"]) < 40
    assert stored(tmp_path) == {}

    assert train_into(tmp_path, long, TWO_CONVOLUTIONS).trained == 1
    whole = tmp_path / "whole"
    whole.mkdir()
    train_into(whole, long, TWO_CONVOLUTIONS)
    assert stored(tmp_path) == stored(whole)
