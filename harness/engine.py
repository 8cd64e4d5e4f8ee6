"""What to compute and where: representatives, look-up in the store, chunks, processes, streamed results."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from harness.backends import load_backend
from harness.backends.module import lacks_memory
from harness.datasets import Batch
from harness.datasets.base import short_hash
from harness.distributed import Engine, LocalEngine
from harness.machine import available_memory, cores
from harness.progress import Progress
from harness.records import ScoreContext, ScoreRecord, settings_text
from harness.scorers.base import Family, Score, Scorer, load_scorer, shared_pass
from harness.store import Store
from spaces.base import AnySpace, Architecture, Complexity, Counting, NetworkConfig
from spaces.errors import InputError
from spaces.plan import Plan, buffer_shapes, peak_floats
from spaces.registry import load_space

CHUNK = 8
"""Architectures per transaction: a second or two of work at risk, and no time lost to the store."""

WORTH_A_PROCESS = 8
"""A worker process takes seconds to start, so each must have at least so many architectures to score."""

PROCESS_BYTES = 700 << 20
"""What torch and its libraries occupy in a worker before it scores anything."""

PLANS_WEIGHED = 64
"""Plans looked at to tell how much memory a run takes."""

KEPT_MAPS = 3
"""Copies of every feature map that a backward pass holds: rectified, normalised, and gradients on their way."""

Measured = TypeVar("Measured")


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """What to score with; picklable, so that a worker builds everything from it.

    `device` is a torch device type, `backend` what `choose_backend` named and `remark` what its user should
    know about that choice. With `canonical` every architecture is scored through its representative, else as
    it is written.
    """

    space: str
    config: NetworkConfig
    scorer: str
    seed: int
    batch: Batch
    device: str
    backend: str = "torch"
    canonical: bool = True
    remark: str | None = None

    def context(self) -> ScoreContext:
        """The key of this job's scores beside the architecture."""
        return ScoreContext(
            space=self.space,
            scorer=self.scorer,
            settings=settings_text(self.config, **self._details()),
            seed=self.seed,
            dataset=self.batch.dataset,
            batch=self.batch.hash,
            batch_size=len(self.batch.images),
            device=self.device,
            backend=self.backend,
        )

    def _details(self) -> dict[str, object]:
        """What the score depends on beside the config: the hash of a batch does not cover its labels."""
        scorer, code = load_scorer(self.scorer), load_space(self.space).code
        details: dict[str, object] = {"scorer_version": scorer.version}
        if code:
            details["code"] = code
        if "labels" in scorer.needs:
            details["labels"] = short_hash(self.batch.labels.numpy().astype("<i8").tobytes())
        return details


@dataclass(frozen=True)
class ScoringSummary:
    """What a run did; seconds of wall clock, everything included.

    `scored` architectures have a value; `unscored` maps a reason to how many have none. Of all asked for,
    `equal` share the representative of another, `cached` were in the store, `copied` have there the same plan as
    for a twin of the scorer, `computed` were computed now; what an interrupt left out is in none of these.
    """

    scored: int
    computed: int
    cached: int
    copied: int
    equal: int
    unscored: Mapping[str, int]
    seconds: float
    interrupted: bool

    @property
    def per_minute(self) -> float:
        """Architectures computed per minute of wall clock."""
        return 60 * self.computed / self.seconds if self.seconds else 0.0


def score_architectures(
    job: ScoringJob,
    architectures: Sequence[Architecture],
    store: Store,
    progress: Progress,
    *,
    processes: int | None = None,
    chunk: int = CHUNK,
    engine: Engine | None = None,
) -> ScoringSummary:
    """Score what the store does not hold yet, a chunk a transaction; Ctrl-C keeps what is done.

    A score depends on the job and the architecture alone: order, `chunk` and `processes` change no bit.
    `processes` is the number of workers, of one thread each on CPU; None takes as many as cores, memory and
    the work allow. An `engine` runs the chunks in their place.

    Raises:
        InputError: the batch needs more memory than there is; anything the store reports.
    """
    (summary,) = score_together(
        [job], architectures, store, progress, processes=processes, chunk=chunk, engine=engine
    )
    return summary


def families(jobs: Sequence[ScoringJob]) -> list[list[ScoringJob]]:
    """The jobs in groups that `score_together` takes: equal but for scorers that one pass serves."""
    groups: dict[Hashable, list[ScoringJob]] = {}
    for job in jobs:
        rest = (job.space, job.config, job.seed, job.batch.hash, job.device, job.backend, job.canonical)
        groups.setdefault((shared_pass(load_scorer(job.scorer)), rest), []).append(job)
    return list(groups.values())


def score_together(
    jobs: Sequence[ScoringJob],
    architectures: Sequence[Architecture],
    store: Store,
    progress: Progress,
    *,
    processes: int | None = None,
    chunk: int = CHUNK,
    engine: Engine | None = None,
) -> list[ScoringSummary]:
    """Score with every scorer of one family (see `families`) by one pass an architecture, as each job would alone.

    Every score stands in its own job's context. The seconds of a record are those of the pass and of its own
    value, what the score costs alone; those of the run are shared out evenly among the summaries.
    """
    started = time.perf_counter()
    asked = _representatives(jobs[0], architectures)
    times_asked = Counter(canonical for _, canonical in asked)
    contexts = {job.scorer: store.score_context(job.context()) for job in jobs}
    for context in contexts.values():
        store.ask(context, asked)
    known = {scorer: _known(store, context, times_asked) for scorer, context in contexts.items()}
    cached = {scorer: len(records) for scorer, records in known.items()}
    copied: dict[str, dict[str, ScoreRecord]] = {}
    for job in jobs:
        lacking = [text for text in times_asked if text not in known[job.scorer]]
        copied[job.scorer] = _copy_from_twins(store, job, lacking)
        known[job.scorer] |= copied[job.scorer]
    missing = [_Task(text, tuple(name for name in known if text not in known[name])) for text in times_asked]
    missing = [task for task in missing if task.scorers]
    progress.advance(len(asked) - len(missing))
    interrupted = False
    if missing:
        engine = engine or LocalEngine(_workers(jobs[0], [task.text for task in missing], processes))
        chunks = [tuple(missing[start : start + chunk]) for start in range(0, len(missing), chunk)]
        try:
            with closing(engine.run(chunks, partial(_ChunkScorer, jobs))) as results:
                for tasks, found in results:
                    for scorer, records in found.items():
                        store.add_scores(contexts[scorer], records)
                        known[scorer].update({record.canonical: record for record in records})
                    progress.advance(len(tasks))
        except KeyboardInterrupt:
            interrupted = True
            # It may have come between a chunk's commit and its count.
            known = {scorer: _known(store, context, times_asked) for scorer, context in contexts.items()}
    seconds = (time.perf_counter() - started) / len(jobs)
    return [
        _summary(
            known[job.scorer],
            times_asked,
            cached[job.scorer],
            len(copied[job.scorer]),
            seconds,
            interrupted=interrupted,
        )
        for job in jobs
    ]


def _summary(
    known: Mapping[str, ScoreRecord],
    times_asked: Mapping[str, int],
    cached: int,
    copied: int,
    seconds: float,
    *,
    interrupted: bool,
) -> ScoringSummary:
    unscored = Counter[str]()
    for record in known.values():
        if record.reason is not None:
            unscored[record.reason] += times_asked[record.canonical]
    return ScoringSummary(
        scored=sum(times_asked[text] for text in known) - unscored.total(),
        computed=len(known) - cached - copied,
        cached=cached,
        copied=copied,
        equal=sum(times_asked[text] - 1 for text in known),
        unscored=dict(unscored),
        seconds=seconds,
        interrupted=interrupted,
    )


def check_memory(job: ScoringJob, architectures: Sequence[Architecture]) -> None:
    """Raise `InputError` if the batch needs more memory than there is: known before a store is made."""
    _workers(job, [canonical for _, canonical in _representatives(job, architectures)], 1)


def _representatives(job: ScoringJob, architectures: Sequence[Architecture]) -> list[tuple[str, str]]:
    """(text as asked, text that is scored) of each architecture."""
    space, counting = load_space(job.space), load_scorer(job.scorer).counting
    if not job.canonical or counting is None:
        return [(str(architecture), str(architecture)) for architecture in architectures]
    return [(str(architecture), str(space.canonical(architecture, counting))) for architecture in architectures]


def _known(store: Store, context: int, asked: Container[str]) -> dict[str, ScoreRecord]:
    """What the store holds of the texts that are scored."""
    return {text: record for text, record in store.scores(context).items() if text in asked}


def _copy_from_twins(store: Store, job: ScoringJob, missing: Sequence[str]) -> dict[str, ScoreRecord]:
    """Copy the scores that a twin of the scorer has in the store, of architectures that have one plan for both.

    Without a plan both see the network as written.
    """
    scorer, space = load_scorer(job.scorer), load_space(job.space)
    copied: dict[str, ScoreRecord] = {}
    if not missing or not scorer.twins:
        return copied
    numbers = {replace(context, dataset=""): number for number, context in store.score_contexts().items()}
    for twin in map(load_scorer, scorer.twins):
        there = numbers.get(replace(replace(job, scorer=twin.name).context(), dataset=""))
        if there is None:
            continue
        known = store.scores(there)
        same = [text for text in missing if text in known and _one_plan(space, job.config, text, scorer, twin)]
        store.copy_scores(there, store.score_context(job.context()), same)
        copied |= {text: known[text] for text in same}
    return copied


def _one_plan(space: AnySpace, config: NetworkConfig, text: str, scorer: Scorer, twin: Scorer) -> bool:
    architecture = space.parse(text)
    one, other = (space.plan(architecture, config, each.counting or "all") for each in (scorer, twin))
    return one == other


def _workers(job: ScoringJob, missing: Sequence[str], wanted: int | None) -> int:
    """How many processes to use: what is wanted or the work is worth, as far as the memory reaches."""
    if wanted is None:
        wanted = max(1, min(cores(), len(missing) // WORTH_A_PROCESS)) if job.device == "cpu" else 1
    available = available_memory() if job.device == "cpu" else torch.cuda.mem_get_info()[0]
    needed = _bytes_needed(job, missing)
    if available is None:
        return wanted
    if needed > available:
        raise InputError(
            f"--batch-size {len(job.batch.images)} needs about {needed / 2**30:.1f} GiB for this network and "
            f"{available / 2**30:.1f} GiB are free: give a smaller batch, image size or network"
        )
    return max(1, min(wanted, available // (needed + PROCESS_BYTES)))


def _bytes_needed(job: ScoringJob, missing: Sequence[str]) -> int:
    """Largest memory that a pass takes at once, over a spread of the architectures; 0 where there are no plans."""
    space, scorer = load_space(job.space), load_scorer(job.scorer)
    floats = kept_floats if "gradients" in scorer.needs else peak_floats
    plans = _plans(space, job.config, scorer.counting or "all", missing)
    return max((4 * len(job.batch.images) * floats(plan) for plan in plans if plan is not None), default=0)


def kept_floats(plan: Plan) -> int:
    """Floats per image that a backward pass needs at once: all feature maps, rectified and not, and gradients."""
    return KEPT_MAPS * sum(math.prod(shape) for _, shape in buffer_shapes(plan))


def some_plans(space: AnySpace, config: NetworkConfig, scorer: str, texts: Sequence[str]) -> list[Plan | None]:
    """Plans of a spread of architectures, enough to tell what a run needs; None for what is scored without one."""
    loaded = load_scorer(scorer)
    if loaded.reads != "plan" or loaded.counting is None:
        return [None]
    return _plans(space, config, loaded.counting, texts)


def _plans(space: AnySpace, config: NetworkConfig, counting: Counting, texts: Sequence[str]) -> list[Plan | None]:
    spread = texts[:: max(1, len(texts) // PLANS_WEIGHED)]
    return [space.plan(space.parse(text), config, counting) for text in spread]


@dataclass(frozen=True)
class _Task:
    """An architecture and the scorers of the family whose score it still lacks."""

    text: str
    scorers: tuple[str, ...]


class _ChunkScorer:
    """Scores chunks of one family's jobs; lives in a worker process, where it keeps its weights."""

    def __init__(self, jobs: Sequence[ScoringJob]) -> None:
        job = jobs[0]
        device = torch.device(job.device)
        self._job = job
        self._space = load_space(job.space)
        self._scorers = {job.scorer: load_scorer(job.scorer) for job in jobs}
        self._backend = load_backend(job.backend, device, job.seed)
        self._batch = replace(job.batch, images=job.batch.images.to(device))

    def __call__(self, tasks: Sequence[_Task]) -> dict[str, list[ScoreRecord]]:
        found: dict[str, list[ScoreRecord]] = {scorer: [] for scorer in self._scorers}
        for task in tasks:
            for scorer, record in self._score(task):
                found[scorer].append(record)
        return found

    def _score(self, task: _Task) -> Iterator[tuple[str, ScoreRecord]]:
        """The scores of one architecture that are missing, by one pass."""
        started = time.perf_counter()
        architecture = self._space.parse(task.text)
        seen = self._look(architecture, self._scorers[task.scorers[0]])
        looked = time.perf_counter() - started
        for name in task.scorers:
            started = time.perf_counter()
            score = seen if isinstance(seen, Score) else self._value(architecture, self._scorers[name], seen)
            if score.value is not None and not math.isfinite(score.value):
                score = Score(None, f"score is {score.value}")
            seconds = looked + time.perf_counter() - started
            yield name, ScoreRecord(task.text, score.value, score.reason, seconds)

    def _look(self, architecture: Architecture, scorer: Scorer) -> object:
        """What the pass of a family shows, or the score of a scorer without one, or the reason against it."""
        look = scorer.look if isinstance(scorer, Family) else scorer.score
        if scorer.reads == "plan" and scorer.counting is not None:
            plan = self._space.plan(architecture, self._job.config, scorer.counting)
            if plan is not None:
                return look(plan, self._batch, self._backend)
        return self._reasoned(
            architecture, lambda: look(self._counts(architecture, scorer), self._batch, self._backend)
        )

    def _counts(self, architecture: Architecture, scorer: Scorer) -> Complexity | nn.Module:
        """The counts by the space's rule if the scorer reads them and there is one, else the network."""
        found = self._space.complexity(architecture, self._job.config) if scorer.reads == "complexity" else None
        if found is not None:
            return found
        network: nn.Module = self._space.network(architecture, self._job.config, self._job.seed)
        return network.to(self._job.device)

    def _value(self, architecture: Architecture, scorer: Scorer, seen: object) -> Score:
        assert isinstance(scorer, Family)
        return self._reasoned(architecture, lambda: scorer.value(seen))

    def _reasoned(self, architecture: Architecture, measure: Callable[[], Measured]) -> Measured | Score:
        """What is measured, or the reason why it cannot be."""
        try:
            return measure()
        except InputError as error:
            return Score(None, str(error))
        # A network is the user's or a library's code: whatever it raises costs its own score and no other's.
        except Exception as error:
            if lacks_memory(error):
                raise InputError(
                    f"not enough memory to score {architecture}: give a smaller --batch-size or fewer --processes"
                ) from error
            return Score(None, f"network {architecture} failed: {type(error).__name__}: {error}".splitlines()[0])
