"""What an evolution maximises: trained accuracy, an untrained score, or accuracy where the score is promising."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from harness.backends import choose_backend
from harness.datasets import Dataset, draw_batch
from harness.engine import ScoringJob, _ChunkScorer, _Task, some_plans
from harness.machine import resolve_device
from harness.records import ScoreRecord, TrainingContext, TrainingRecord, settings_text
from harness.scorers.base import load_scorer
from harness.search.base import SearchJob
from harness.training.images import TrainingSetup, prepare_training
from harness.training.recipes import Recipe
from harness.training.trainer import train
from spaces.base import Architecture, NetworkConfig
from spaces.errors import InputError
from spaces.registry import load_space
from spaces.weights import keyed_generator

ACCURACY = "accuracy"


@dataclass(frozen=True)
class Evaluation:
    """Fitness of a representative, more is better; or the reason why it has none. Seconds at the worker."""

    canonical: str
    fitness: float | None
    reason: str | None
    seconds: float
    score: float | None = None


class Candidate(NamedTuple):
    """What a worker is sent: a representative, and the least score that makes it worth training (None: any)."""

    canonical: str
    least_score: float | None = None


@dataclass(frozen=True)
class Measured:
    """What a worker sends back: the records that it made."""

    canonical: str
    score: ScoreRecord | None
    training: TrainingRecord | None
    reason: str | None
    seconds: float


class FitnessKind(NamedTuple):
    """What is measured: by a scorer, by training, or first by the one and then, if promising, by the other."""

    scorer: str | None
    trained: bool

    @property
    def gated(self) -> bool:
        """Whether the score decides what is trained."""
        return self.trained and self.scorer is not None


def parse_fitness(text: str) -> FitnessKind:
    """Kind of `accuracy`, `SCORER` or `SCORER+accuracy`. Raises `InputError` with the scorers that exist."""
    first, _, rest = text.partition("+")
    if text == ACCURACY:
        return FitnessKind(None, trained=True)
    if rest not in ("", ACCURACY) or text.endswith("+"):
        raise InputError(f"--fitness {text!r} must be {ACCURACY}, a scorer, or SCORER+{ACCURACY}")
    load_scorer(first)
    return FitnessKind(first, trained=bool(rest))


class Fitness:
    """A fitness on a job: which architectures are equal, what is known of them, how a worker measures the others.

    The measurements stand in the store's tables of scores and trainings, where `tfnas score` and `tfnas train`
    with the same settings find them, and this finds theirs. Fitness is the validation accuracy, never the
    test's; of a score of which less is better, the negative.

    Raises:
        InputError: the batch cannot be drawn.
    """

    def __init__(self, job: SearchJob, kind: FitnessKind, recipe: Recipe, batch_size: int) -> None:
        self._space = job.space
        self._store = job.store
        self._recipe = recipe if kind.trained else None
        self._scoring = _scoring_job(job, kind.scorer, batch_size) if kind.scorer else None
        scorer = load_scorer(kind.scorer) if kind.scorer else None
        self._sign = -1 if scorer and not scorer.higher_is_better else 1
        self._counting = scorer.counting if scorer and not kind.trained else "live"
        self._scores = self._store.score_context(self._scoring.context()) if self._scoring else None
        self._trainings = self._store.training_context(_training_context(job, recipe)) if kind.trained else None
        self._make_worker = partial(_Evaluator, job.space.name, job.config, job.seed, job.device)
        self._images = job.dataset if kind.trained else None

    def settings(self) -> dict[str, Any]:
        """All that decides a fitness beside the job."""
        scoring = self._scoring.context() if self._scoring else None
        return {
            "scorer": scoring and [scoring.scorer, scoring.settings, scoring.batch],
            "recipe": self._recipe and self._recipe.text(),
        }

    def representative(self, architecture: Architecture) -> str:
        """Text of the architecture that is measured for all that are equal to it."""
        if self._counting is None:
            return str(architecture)
        return str(self._space.canonical(architecture, self._counting))

    def known(self) -> dict[str, Evaluation]:
        """Every evaluation that the store holds, by representative."""
        scores = {} if self._scores is None else self._store.scores(self._scores)
        if self._trainings is None:
            return {text: self._by_score(record) for text, record in scores.items()}
        trainings = self._store.trainings(self._trainings)
        return {text: self._by_accuracy(record, scores.get(text)) for text, record in trainings.items()}

    def make_worker(self) -> Callable[[], Callable[[Candidate], Measured]]:
        """What makes a worker's function; picklable, with all that the worker needs."""
        return partial(self._make_worker, self._images, self._recipe, self._scoring, self._sign)

    def keep(self, measured: Measured) -> Evaluation:
        """Write what a worker measured into the store; the evaluation that it makes."""
        if measured.score and self._scores is not None:
            self._store.add_scores(self._scores, [measured.score])
        if measured.training and self._trainings is not None:
            self._store.add_training(self._trainings, measured.training)
            return self._by_accuracy(measured.training, measured.score)
        if measured.score and self._recipe is None:
            return self._by_score(measured.score)
        score = signed(measured.score, self._sign)
        return Evaluation(measured.canonical, None, measured.reason, measured.seconds, score)

    def _by_score(self, record: ScoreRecord) -> Evaluation:
        value = signed(record, self._sign)
        return Evaluation(record.canonical, value, record.reason, record.seconds, value)

    def _by_accuracy(self, record: TrainingRecord, score: ScoreRecord | None) -> Evaluation:
        value = signed(score, self._sign)
        return Evaluation(record.canonical, record.validation_accuracy, None, record.seconds, value)


def signed(record: ScoreRecord | None, sign: int) -> float | None:
    """The score, turned so that more is better; None where there is none."""
    return None if record is None or record.value is None else sign * record.value


def _training_context(job: SearchJob, recipe: Recipe) -> TrainingContext:
    return TrainingContext(
        space=job.space.name,
        recipe=recipe.text(),
        settings=settings_text(job.config),
        seed=job.seed,
        dataset=job.dataset.name,
        data=job.dataset.fingerprint,
    )


def _scoring_job(job: SearchJob, scorer: str, batch_size: int) -> ScoringJob:
    batch = draw_batch(job.dataset, batch_size, job.seed)
    example = str(job.space.sample(keyed_generator(job.seed, "fitness example")))
    plans = some_plans(job.space, job.config, scorer, [example])
    backend, _ = choose_backend("auto", job.device, plans)
    return ScoringJob(job.space.name, job.config, scorer, job.seed, batch, job.device, backend)


class _Evaluator:
    """Measures candidates; lives in a worker process, where it keeps the images."""

    def __init__(
        self,
        space: str,
        config: NetworkConfig,
        seed: int,
        device: str,
        images: Dataset | None,
        recipe: Recipe | None,
        scoring: ScoringJob | None,
        sign: int,
    ) -> None:
        self._space = load_space(space)
        self._config = config
        self._seed = seed
        self._sign = sign
        self._score = scoring and _ChunkScorer([scoring])
        self._scorer = scoring and scoring.scorer
        self._setup = prepare_training(images, recipe, seed, resolve_device(device)) if images and recipe else None

    def __call__(self, candidate: Candidate) -> Measured:
        started = time.perf_counter()
        text = candidate.canonical
        score: ScoreRecord | None = None
        if self._score and self._scorer:
            (score,) = self._score([_Task(text, (self._scorer,))])[self._scorer]
        training, reason = None, score.reason if score else None
        if self._setup is not None and self._promising(score, candidate.least_score):
            training, reason = self._train(text, self._setup)
        elif self._setup is not None and reason is None:
            reason = f"score below {candidate.least_score:.6g}, the median of those before"
        return Measured(text, score, training, reason, time.perf_counter() - started)

    def _promising(self, score: ScoreRecord | None, least: float | None) -> bool:
        value = signed(score, self._sign)
        return least is None or (value is not None and value >= least)

    def _train(self, text: str, setup: TrainingSetup) -> tuple[TrainingRecord | None, str | None]:
        try:
            network = self._space.network(self._space.parse(text), self._config, self._seed)
        except InputError as error:
            return None, str(error)
        return TrainingRecord(text, *train(network, setup)), None
