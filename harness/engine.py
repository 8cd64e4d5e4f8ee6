"""What to compute and where: representatives, look-up in the store, chunks, processes, streamed results."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch

from harness.backends import load_backend
from harness.datasets import Batch
from harness.machine import available_memory, cores
from harness.progress import Progress
from harness.records import ScoreContext, ScoreRecord, settings_text
from harness.scorers.base import Score, load_scorer
from harness.store import Store
from harness.workers import run_tasks
from spaces.base import AnySpace, Architecture, NetworkConfig
from spaces.errors import InputError
from spaces.plan import Plan, peak_floats
from spaces.registry import load_space

CHUNK = 8
"""Architectures per transaction: a second or two of work at risk, and no time lost to the store."""

WORTH_A_PROCESS = 8
"""A worker process takes seconds to start, so each must have at least so many architectures to score."""

PROCESS_BYTES = 700 << 20
"""What torch and its libraries occupy in a worker before it scores anything."""

PLANS_WEIGHED = 64
"""Plans looked at to tell how much memory a run takes."""


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
            settings=settings_text(self.config, scorer_version=load_scorer(self.scorer).version, **self._code()),
            seed=self.seed,
            dataset=self.batch.dataset,
            batch=self.batch.hash,
            batch_size=len(self.batch.images),
            device=self.device,
            backend=self.backend,
        )

    def _code(self) -> dict[str, str]:
        code = load_space(self.space).code
        return {"code": code} if code else {}


@dataclass(frozen=True)
class ScoringSummary:
    """What a run did; seconds of wall clock, everything included.

    `scored` architectures have a value; `unscored` maps a reason to how many have none. Of all asked for,
    `equal` share the representative of another, `cached` were in the store, `computed` were computed now; what
    an interrupt left out is in none of these.
    """

    scored: int
    computed: int
    cached: int
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
) -> ScoringSummary:
    """Score what the store does not hold yet, a chunk a transaction; Ctrl-C keeps what is done.

    A score depends on the job and the architecture alone: order, `chunk` and `processes` change no bit.
    `processes` is the number of workers, of one thread each on CPU; None takes as many as cores, memory and
    the work allow.

    Raises:
        InputError: the batch needs more memory than there is; anything the store reports.
    """
    started = time.perf_counter()
    asked = _representatives(job, architectures)
    context = store.score_context(job.context())
    store.ask(context, asked)
    times_asked = Counter(canonical for _, canonical in asked)
    known = _known(store, context, times_asked)
    missing = [text for text in times_asked if text not in known]
    cached = len(known)
    progress.advance(len(asked) - len(missing))
    interrupted = False
    if missing:
        workers = _workers(job, missing, processes)
        chunks = [tuple(missing[start : start + chunk]) for start in range(0, len(missing), chunk)]
        try:
            with closing(run_tasks(chunks, partial(_ChunkScorer, job), processes=workers)) as results:
                for _, records in results:
                    store.add_scores(context, records)
                    known.update({record.canonical: record for record in records})
                    progress.advance(len(records))
        except KeyboardInterrupt:
            interrupted = True
            # It may have come between a chunk's commit and its count.
            known = _known(store, context, times_asked)
    unscored = Counter[str]()
    for record in known.values():
        if record.reason is not None:
            unscored[record.reason] += times_asked[record.canonical]
    return ScoringSummary(
        scored=sum(times_asked[text] for text in known) - unscored.total(),
        computed=len(known) - cached,
        cached=cached,
        equal=sum(times_asked[text] - 1 for text in known),
        unscored=dict(unscored),
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )


def check_memory(job: ScoringJob, architectures: Sequence[Architecture]) -> None:
    """Raise `InputError` if the batch needs more memory than there is: known before a store is made."""
    _workers(job, [canonical for _, canonical in _representatives(job, architectures)], 1)


def _representatives(job: ScoringJob, architectures: Sequence[Architecture]) -> list[tuple[str, str]]:
    """(text as asked, text that is scored) of each architecture."""
    if not job.canonical:
        return [(str(architecture), str(architecture)) for architecture in architectures]
    space, counting = load_space(job.space), load_scorer(job.scorer).counting
    return [(str(architecture), str(space.canonical(architecture, counting))) for architecture in architectures]


def _known(store: Store, context: int, asked: Container[str]) -> dict[str, ScoreRecord]:
    """What the store holds of the texts that are scored."""
    return {text: record for text, record in store.scores(context).items() if text in asked}


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
    """Largest memory that a plan takes at once, over a spread of the architectures; 0 where there are no plans."""
    plans = some_plans(load_space(job.space), job.config, job.scorer, missing)
    return max((4 * len(job.batch.images) * peak_floats(plan) for plan in plans if plan is not None), default=0)


def some_plans(space: AnySpace, config: NetworkConfig, scorer: str, texts: Sequence[str]) -> list[Plan | None]:
    """Plans of a spread of architectures, enough to tell what a run needs; None for a network without one."""
    counting = load_scorer(scorer).counting
    spread = texts[:: max(1, len(texts) // PLANS_WEIGHED)]
    return [space.plan(space.parse(text), config, counting) for text in spread]


class _ChunkScorer:
    """Scores chunks of one job; lives in a worker process, where it keeps its weights."""

    def __init__(self, job: ScoringJob) -> None:
        device = torch.device(job.device)
        self._job = job
        self._space = load_space(job.space)
        self._scorer = load_scorer(job.scorer)
        self._backend = load_backend(job.backend, device, job.seed)
        self._batch = replace(job.batch, images=job.batch.images.to(device))

    def __call__(self, texts: Sequence[str]) -> list[ScoreRecord]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> ScoreRecord:
        started = time.perf_counter()
        architecture = self._space.parse(text)
        plan = self._space.plan(architecture, self._job.config, self._scorer.counting)
        if plan is None:
            score = self._score_network(architecture)
        else:
            score = self._scorer.score(plan, self._batch, self._backend)
        if score.value is not None and not math.isfinite(score.value):
            score = Score(None, f"score is {score.value}")
        return ScoreRecord(text, score.value, score.reason, time.perf_counter() - started)

    def _score_network(self, architecture: Architecture) -> Score:
        try:
            network = self._space.network(architecture, self._job.config, self._job.seed).to(self._job.device)
            return self._scorer.score(network, self._batch, self._backend)
        except InputError as error:
            return Score(None, str(error))
        except MemoryError as error:
            raise InputError(
                f"not enough memory to score {architecture}: give a smaller --batch-size or fewer --processes"
            ) from error
        # A network is the user's or a library's code: whatever it raises costs its own score and no other's.
        except Exception as error:
            return Score(None, f"network {architecture} failed: {type(error).__name__}: {error}".splitlines()[0])
