"""Evolution by one controller and asynchronous workers (Liu et al., ICLR 2018, section 3; Real et al., AAAI 2019).

There are no generations: whenever a worker is idle, the controller selects, mutates and enqueues. Random search is
the initial population alone.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.distributed import Engine, load_engine
from harness.progress import Progress
from harness.records import settings_text
from harness.search.base import SearchJob, SearchMethod
from harness.search.controller import Controller
from harness.search.evaluations import Individual, IndividualTable, frequent_writes
from harness.search.fitness import ACCURACY, Fitness, FitnessKind, parse_fitness
from harness.search.records import SearchContext, SearchRecord
from harness.search.selection import SELECTIONS, Selection, fitness_or_least
from harness.search.table import SearchTable
from harness.training.recipes import Recipe, load_recipe
from spaces.errors import InputError, Stopped

RULE = "best fitness"

SCORE_BATCH = 128
"""Images that a score looks at, as in the NASWOT article."""

RECIPE_SETTINGS = ("epochs", "batch_size", "learning_rate", "train_images")


@dataclass(frozen=True)
class EvolutionRecord(SearchRecord):
    """What an evolution found, its fitness, how many were evaluated now and how many were found finished."""

    fitness: float
    evaluated: int
    resumed: int


def evolution_search(name: str, settings: dict[str, Any]) -> EvolutionSearch:
    """The search of this name in `SELECTIONS`.

    Settings are `fitness` (see `parse_fitness`), `steps`, `population`, `tournament`; `workers`, `engine`,
    `address`, `cpus` and `gpus` (see `load_engine`); `recipe`, and `epochs`, `batch_size`, `learning_rate` and
    `train_images` in place of the recipe's.

    Raises:
        InputError: a setting that is unknown or out of its range.
    """
    selection = SELECTIONS[name]
    if "population" in settings:
        if selection.population is None:
            raise InputError(
                f"method {name} has no population, all of its steps are drawn; leave --population out"
            )
        selection = replace(selection, population=settings.pop("population"))
    if "tournament" in settings:
        selection = replace(selection, tournament=settings.pop("tournament"))
    steps, workers = settings.pop("steps", 100), settings.pop("workers", 1)
    if steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    shares = {share: settings.pop(share) for share in ("cpus", "gpus") if share in settings}
    engine = load_engine(settings.pop("engine", "local"), workers, settings.pop("address", None), **shares)
    kind = parse_fitness(settings.pop("fitness", ACCURACY))
    recipe = settings.pop("recipe", "small")
    changes = {field: settings.pop(field, None) for field in RECIPE_SETTINGS}
    if settings:
        raise InputError(f"method {name} has no setting {', '.join(settings)}")
    return EvolutionSearch(name, selection, kind, load_recipe(recipe, **changes), steps, engine)


class EvolutionSearch(SearchMethod):
    """Evolution or random search with one fitness; more steps later extend the same search."""

    def __init__(
        self, name: str, selection: Selection, kind: FitnessKind, recipe: Recipe, steps: int, engine: Engine
    ) -> None:
        self.name = name
        self._selection = selection
        self._kind = kind
        self._recipe = recipe
        self._steps = steps
        self._engine = engine

    @property
    def steps(self) -> int:
        """Individuals of the whole search, the initial population among them."""
        return self._steps

    def recipe_text(self) -> str:
        """Selection and fitness; the number of steps is left out, since more of them extend a search."""
        trained = {"recipe": json.loads(self._recipe.text())} if self._kind.trained else {}
        return json.dumps({**asdict(self._selection), "scorer": self._kind.scorer, **trained}, sort_keys=True)

    def run(self, job: SearchJob, progress: Progress) -> EvolutionRecord:
        """Run to the last step, or go on where the same search was cut off.

        Killed at any moment it loses at most the evaluations in flight, which are first when it goes on; and no
        two individuals that are equal are evaluated twice.

        Raises:
            InputError: whatever space, data, store, network or engine have to say.
            Stopped: no individual got a fitness; the reason of the last is named.
        """
        fitness = self._fitness(job)
        number = SearchTable(job.store).context(self._context(job, fitness))
        with frequent_writes(job.store):
            return self._run(job, progress, fitness, number)

    def individuals(self, job: SearchJob) -> list[Individual]:
        """Every individual of this search that the store holds, by step."""
        number = SearchTable(job.store).context(self._context(job, self._fitness(job)))
        return IndividualTable(job.store, number).read()

    def _fitness(self, job: SearchJob) -> Fitness:
        return Fitness(job, self._kind, self._recipe, SCORE_BATCH)

    def _run(self, job: SearchJob, progress: Progress, fitness: Fitness, number: int) -> EvolutionRecord:
        controller = Controller(
            job, self._selection, fitness, IndividualTable(job.store, number), gated=self._kind.gated
        )
        resumed = shown = len(controller.finished)
        progress.note(self._standing(controller))
        progress.advance(resumed)
        evaluated = 0
        try:
            with closing(self._engine.run(controller.candidates(self._steps), fitness.make_worker())) as results:
                for _, measured in results:
                    controller.learn(measured)
                    evaluated += 1
                    progress.note(self._standing(controller))
                    progress.advance(len(controller.finished) - shown)
                    shown = len(controller.finished)
        finally:
            controller.write()
        progress.advance(len(controller.finished) - shown)
        record = self._record(controller)
        SearchTable(job.store).add_result(number, record)
        return EvolutionRecord(
            **asdict(record),
            fitness=fitness_or_least(self._best(controller)),
            evaluated=evaluated,
            resumed=resumed,
        )

    def _standing(self, controller: Controller) -> str:
        """The best so far, the queue and the workers, for whoever looks on."""
        workers = f"{self._engine.workers or 'all'} workers" if self._engine.workers != 1 else "1 worker"
        waiting = f"{controller.queued} in the queue, {workers}"
        if controller.best is None:
            return f"none has a fitness yet, {waiting}"
        return f"best {controller.best.fitness:.6g} at step {controller.best.step}, {waiting}"

    def _best(self, controller: Controller) -> Individual:
        among = [individual for individual in controller.fit if individual.step < self._steps]
        if not among:
            raise Stopped(f"none of {self._steps} individuals got a fitness: {controller.finished[-1].reason}")
        return max(among, key=fitness_or_least)

    def _record(self, controller: Controller) -> SearchRecord:
        best = self._best(controller)
        measure = "accuracy" if self._kind.trained else self._kind.scorer
        return SearchRecord(
            architecture=best.architecture,
            rule=RULE,
            epoch=best.step,
            reason=f"{measure} {best.fitness:.6g} is the best of {len(controller.finished)} individuals",
            seconds=controller.seconds,
        )

    def _context(self, job: SearchJob, fitness: Fitness) -> SearchContext:
        return SearchContext(
            space=job.space.name,
            method=self.name,
            recipe=self.recipe_text(),
            settings=settings_text(job.config, **fitness.settings()),
            seed=job.seed,
            dataset=job.dataset.name,
            data=job.dataset.fingerprint,
            device=job.device,
        )
