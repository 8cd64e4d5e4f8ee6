"""The controller of an evolution: it owns population and queue, and workers ask it for something to measure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from harness.search.base import SearchJob
from harness.search.evaluations import Individual, IndividualTable
from harness.search.fitness import Candidate, Evaluation, Fitness, Measured
from harness.search.selection import Selection, fitness_or_least, in_order

SCORES_BEFORE_GATE = 10
"""So many individuals are trained whatever their score; then a score must reach the median of those before."""


class Controller:
    """Proposes individuals and learns their fitness; all that it knows is in the store.

    `finished` and `fit`, those with a fitness, are in the order that they were finished; `best` is the first of
    the fittest.

    A proposal depends on the seed, its step and what was finished before it, and on nothing else: with one worker
    a search is determined by its seed, with several by its trace too. Between the moment that a worker asks and
    the moment that it gets a candidate there is one transaction.
    """

    def __init__(
        self, job: SearchJob, selection: Selection, fitness: Fitness, table: IndividualTable, *, gated: bool
    ) -> None:
        self._job = job
        self._selection = selection
        self._fitness = fitness
        self._table = table
        self._gated = gated
        individuals = table.read()
        self.finished = in_order(individuals)
        self.fit = [individual for individual in self.finished if individual.fitness is not None]
        self.best = max(self.fit, key=fitness_or_least, default=None)
        self._queue = [individual for individual in individuals if individual.finished is None]
        self._proposed = len(individuals)
        self._known = fitness.known() | {
            individual.canonical: _evaluation(individual) for individual in self.finished
        }
        self._unwritten: list[Individual] = []
        self._all_proposed = False
        self._started = time.perf_counter() - max(
            (individual.seconds or 0.0 for individual in self.finished), default=0.0
        )

    @property
    def seconds(self) -> float:
        """Wall clock of the search, over all its runs."""
        return time.perf_counter() - self._started

    @property
    def queued(self) -> int:
        """Individuals that are proposed and not finished."""
        return len(self._queue)

    def candidates(self, steps: int) -> Iterator[Candidate]:
        """What an idle worker is to measure, up to so many steps; first what an earlier run left in the queue."""
        left = list(self._queue)
        sent: set[str] = set()
        while left or self._proposed < steps:
            individual = left.pop(0) if left else self._propose()
            if individual.canonical in self._known:
                self._finish(individual, replace(self._known[individual.canonical], seconds=0.0))
            elif individual.canonical not in sent:
                sent.add(individual.canonical)
                self.write()
                yield Candidate(individual.canonical, individual.least_score)
        self._all_proposed = True
        self.write()

    def learn(self, measured: Measured) -> None:
        """Finish every individual that this measurement is for."""
        evaluation = self._known[measured.canonical] = self._fitness.keep(measured)
        for individual in [waiting for waiting in self._queue if waiting.canonical == measured.canonical]:
            self._finish(individual, evaluation)
            evaluation = replace(evaluation, seconds=0.0)
        if self._all_proposed:
            self.write()

    def write(self) -> None:
        """Bring the store up to date."""
        if self._unwritten:
            self._table.write(self._unwritten)
            self._unwritten = []

    def _propose(self) -> Individual:
        step = self._proposed
        architecture, parent = self._selection.propose(self._job.space, self._job.seed, step, self.fit)
        individual = Individual(
            step=step,
            architecture=str(architecture),
            canonical=self._fitness.representative(architecture),
            parent=parent,
            known=len(self.finished),
            least_score=self._least_score(),
        )
        self._proposed += 1
        self._queue.append(individual)
        self._unwritten.append(individual)
        return individual

    def _least_score(self) -> float | None:
        if not self._gated:
            return None
        scores = [individual.score for individual in self.finished if individual.score is not None]
        return median(scores) if len(scores) >= SCORES_BEFORE_GATE else None

    def _finish(self, individual: Individual, evaluation: Evaluation) -> None:
        finished = replace(
            individual,
            finished=len(self.finished),
            fitness=evaluation.fitness,
            reason=evaluation.reason,
            score=evaluation.score,
            evaluation_seconds=evaluation.seconds,
            seconds=self.seconds,
        )
        self._queue.remove(individual)
        self.finished.append(finished)
        if finished.fitness is not None:
            self.fit.append(finished)
            self.best = max(filter(None, (self.best, finished)), key=fitness_or_least)
        self._unwritten.append(finished)


def _evaluation(individual: Individual) -> Evaluation:
    return Evaluation(individual.canonical, individual.fitness, individual.reason, 0.0, individual.score)
