"""Many trainings: representatives, look-up in the store, processes, checkpoints, results into the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from harness.datasets import Dataset, load_dataset
from harness.distributed import Engine, LocalEngine
from harness.machine import resolve_device
from harness.progress import Progress
from harness.records import TrainingContext, TrainingRecord, settings_text
from harness.store import Store
from harness.training.checkpoint import Checkpoint
from harness.training.images import prepare_training
from harness.training.language import prepare_text, train_language
from harness.training.perplexities import PerplexityRecord, PerplexityTable
from harness.training.recipes import Recipe, load_recipe
from harness.training.text_recipes import LanguageRecipe, load_text_recipe
from harness.training.trainer import train
from spaces.base import Architecture, NetworkConfig, Reading
from spaces.errors import InputError
from spaces.registry import load_space


@dataclass(frozen=True)
class TrainingJob:
    """What to train with; picklable, so that a worker builds everything from it.

    `dataset`, `data_dir` and `image_size` are what `load_dataset` takes; `device` is cpu, cuda or auto.
    """

    space: str
    config: NetworkConfig
    recipe: Recipe | LanguageRecipe
    seed: int
    dataset: str
    data_dir: Path
    image_size: int | None
    device: str

    def load_dataset(self) -> Dataset:
        """The data set. Raises `InputError` if it cannot be read, or the config is for other images."""
        dataset = load_dataset(self.dataset, root=self.data_dir, image_size=self.image_size)
        found = (dataset.channels, dataset.image_size, len(dataset.classes))
        expected = (self.config.input_channels, self.config.image_size, self.config.classes)
        if found != expected:
            names = ("input_channels", "image_size", "classes")
            name, has, takes = next(row for row in zip(names, found, expected, strict=True) if row[1] != row[2])
            raise InputError(f"{name} of the networks is {takes}, but {self.dataset} has {has}")
        return dataset

    def context(self) -> TrainingContext:
        """The key of this job's trainings beside the architecture."""
        return TrainingContext(
            space=self.space,
            recipe=self.recipe.text(),
            settings=settings_text(self.config),
            seed=self.seed,
            dataset=self.dataset,
            data=self.load_dataset().fingerprint,
        )


@dataclass(frozen=True)
class TrainingSummary:
    """What a run did; seconds of wall clock, everything included.

    Of the `asked` architectures, `equal` share the representative of another, `cached` were in the store and
    `trained` were trained now; what an interrupt left out is in none of these.
    """

    asked: int
    trained: int
    cached: int
    equal: int
    seconds: float
    interrupted: bool


def train_architectures(
    job: TrainingJob,
    architectures: Sequence[Architecture],
    store: Store,
    *,
    checkpoints: Path,
    processes: int,
    progress: Progress,
    engine: Engine | None = None,
) -> TrainingSummary:
    """Train what the store does not hold yet, each through its representative; Ctrl-C keeps what is done.

    A training that was cut off goes on from its checkpoint in the folder `checkpoints`, which is made if
    need be; a finished one is in the store and its checkpoint is deleted. On CPU, a result has the same bits
    for any order, number of `processes` and number of resumes. An `engine` runs the trainings in place of
    processes here; it reads the data and writes checkpoints where each worker is.

    Raises:
        InputError: whatever data set, networks, checkpoints or store have to say.
    """
    started = time.perf_counter()
    space = load_space(job.space)
    times_asked = Counter(str(space.canonical(architecture, "live")) for architecture in architectures)
    context = job.context()
    number = store.training_context(context)
    known = store.trainings(number)
    missing = [text for text in times_asked if text not in known]
    _make_folder(checkpoints)
    progress.advance(len(architectures) - len(missing))
    trained: list[str] = []
    interrupted = False
    make_trainer = partial(_Trainer, job, context, checkpoints.resolve())
    try:
        with closing((engine or LocalEngine(processes)).run(missing, make_trainer)) as results:
            for text, record in results:
                if isinstance(record, PerplexityRecord):
                    PerplexityTable(store).add(number, record)
                store.add_training(number, record)
                _checkpoint(context, text, checkpoints).remove()
                trained.append(text)
                progress.advance()
    except KeyboardInterrupt:
        interrupted = True
    return TrainingSummary(
        asked=len(architectures),
        trained=len(trained),
        cached=len(times_asked) - len(missing),
        equal=sum(times_asked[text] - 1 for text in (*known, *trained) if text in times_asked),
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )


def load_any_recipe(name: str, reads: Reading, **overrides: Any) -> Recipe | LanguageRecipe:
    """The recipe of this name for what a space reads; overrides that are None keep its value.

    Raises:
        InputError: unknown name, an override that it has no field for, or a value out of its range.
    """
    if reads == "text":
        return load_text_recipe(name, **overrides)
    if overrides.pop("dropout", None) is not None:
        raise InputError(f"recipe {name} for images has no setting --dropout")
    return load_recipe(name, **overrides)


class _Trainer:
    """Trains architectures of one job; lives in a worker process, where it keeps the images."""

    def __init__(self, job: TrainingJob, context: TrainingContext, checkpoints: Path) -> None:
        self._job = job
        self._context = context
        self._checkpoints = checkpoints
        _make_folder(checkpoints)
        self._space = load_space(job.space)
        self._train = _trainer(job)

    def __call__(self, text: str) -> TrainingRecord:
        network = self._space.network(self._space.parse(text), self._job.config, self._job.seed)
        return self._train(text, network, _checkpoint(self._context, text, self._checkpoints))


def _trainer(job: TrainingJob) -> Callable[[str, Any, Checkpoint], TrainingRecord]:
    """Trains one network, given its text and its checkpoint, on what the job's space reads."""
    dataset, recipe, device = job.load_dataset(), job.recipe, resolve_device(job.device)
    if isinstance(recipe, Recipe):
        images = prepare_training(dataset, recipe, job.seed, device)
        return lambda text, network, checkpoint: TrainingRecord(
            text, *train(network, images, checkpoint=checkpoint)
        )
    tokens = prepare_text(dataset, recipe, job.config, job.seed, device)
    return lambda text, network, checkpoint: PerplexityRecord(
        text, *train_language(network, tokens, checkpoint=checkpoint)
    )


def _checkpoint(context: TrainingContext, text: str, folder: Path) -> Checkpoint:
    """Checkpoint of an architecture, in a file named by all that the training depends on."""
    belongs_to = {"architecture": text, **asdict(context)}
    # What people call the data set decides nothing: its fingerprint does.
    del belongs_to["dataset"]
    name = blake2b(repr(sorted(belongs_to.items())).encode(), digest_size=16).hexdigest()
    return Checkpoint(folder / f"{name}.pt", belongs_to)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--checkpoints {folder} cannot be made: {error.strerror}") from error
