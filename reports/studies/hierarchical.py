"""Hierarchical against flat, evolution against random search, by training or a score (Liu et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from harness.distributed import LocalEngine
from harness.progress import Progress
from harness.search.evaluations import Individual
from harness.search.evolution import EvolutionSearch
from harness.search.fitness import ACCURACY, parse_fitness
from harness.search.selection import SELECTIONS, fitness_or_least
from harness.training.recipes import Recipe
from reports.html import Head
from reports.motifs import draw_genotype
from reports.plots import png_bytes
from reports.statistics import Floats
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import Curve, curves
from reports.studies.jobs import search_job, training_job, trainings
from reports.studies.seeds import mean_over_seeds, seeds_of
from reports.studies.words import hundredths, points, several, verdict
from spaces.base import Architecture
from spaces.errors import InputError
from spaces.hierarchical import Genotype, HierarchicalConfig
from spaces.registry import load_space

SPACES = ("hierarchical", "flat")
METHODS = ("evolution", "random")

SCORED_STEPS = 1000
POPULATION = 25
"""Initial population of an evolution, at most half of its steps."""

LONGER = 5
"""Epochs of the final training for each epoch of a fitness."""

WIDER, DEEPER = 4, 2
"""The larger network that a found cell is moved to has so many times the channels and the cells of a stage."""

WINDOW_SHARE = 10
"""Fitness and parameters are drawn as means over a tenth of the steps."""


class Arm(NamedTuple):
    """A way to search: what is maximised, in which space, by which method."""

    fitness: str
    space: str
    method: str

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.space}, {self.method}"


@dataclass(frozen=True)
class Searched:
    """A search of an arm: its individuals by step, the fittest, and what came of it when trained.

    `short` is its validation accuracy by the recipe of the fitness, `error` its test error by the longer one;
    `large_error` that of the larger network, NaN but for the fittest of the arm's seeds.
    """

    seed: int
    individuals: Sequence[Individual]
    best: Individual
    params: int
    short: float
    error: float
    large_error: float

    @property
    def seconds(self) -> float:
        """Seconds that workers spent."""
        return sum(individual.evaluation_seconds or 0.0 for individual in self.individuals)

    @property
    def evaluated(self) -> int:
        """Evaluations; individuals that are equal share one."""
        return len({individual.canonical for individual in self.individuals})


def study_hierarchical(setting: StudySetting, bars: Bars) -> Findings:
    """Every arm with every seed, then what each found trained longer, and the best of an arm made larger."""
    if setting.space.name not in SPACES:
        raise InputError(f"study hierarchical compares {' with '.join(SPACES)}: give --space {SPACES[0]}")
    found = {arm: list(_search(setting, arm, bars)) for arm in _arms(setting)}
    trained = {arm: _trained(setting, arm, searches, bars) for arm, searches in found.items()}
    counts = _Counts(setting)
    return Findings(
        sentences=tuple(_sentences(setting, trained)),
        tables=(_table(setting, trained), _transfer_table(setting, trained, counts)),
        figures=tuple(_figures(trained, counts)),
        data=_data(trained, counts),
    )


def _arms(setting: StudySetting) -> list[Arm]:
    return [Arm(*arm) for arm in product((ACCURACY, setting.scorers[0]), SPACES, METHODS)]


def _steps(setting: StudySetting, arm: Arm) -> int:
    return setting.budget if arm.fitness == ACCURACY else setting.sample or SCORED_STEPS


def _search(setting: StudySetting, arm: Arm, bars: Bars) -> Iterator[tuple[int, list[Individual]]]:
    """Seed and individuals of every search of an arm."""
    steps = _steps(setting, arm)
    selection = SELECTIONS[arm.method]
    if selection.population is not None:
        selection = replace(selection, population=min(POPULATION, steps // 2))
    engine = LocalEngine(setting.processes or 1)
    search = EvolutionSearch(arm.method, selection, parse_fitness(arm.fitness), setting.recipe, steps, engine)
    for seed in seeds_of(setting):
        job = search_job(setting, seed, setting.store.path.parent, load_space(arm.space))
        with bars(f"{arm.name} by {arm.fitness}, seed {seed}", steps) as bar:
            search.run(job, bar)
        yield seed, search.individuals(job)[:steps]


def _trained(
    setting: StudySetting, arm: Arm, found: Sequence[tuple[int, list[Individual]]], bars: Bars
) -> list[Searched]:
    """The fittest of each search by both recipes, and the fittest of all in the larger network."""
    config = _config(setting)
    large = replace(config, channels=WIDER * config.channels, cells=DEEPER * config.cells)
    longer = replace(setting.recipe, epochs=LONGER * setting.recipe.epochs)
    bests = [max((each for each in rows if each.fitness is not None), key=fitness_or_least) for _, rows in found]
    fittest = max(range(len(bests)), key=lambda index: fitness_or_least(bests[index]))
    searched = []
    with bars(f"{arm.name} by {arm.fitness}, trained", 2 * len(bests) + 1) as bar:
        for index, ((seed, individuals), best) in enumerate(zip(found, bests, strict=True)):
            genotype = load_space(arm.space).parse(best.architecture)
            short, _ = _train(setting, arm.space, genotype, config, setting.recipe, seed, bar)
            _, test = _train(setting, arm.space, genotype, config, longer, seed, bar)
            larger = np.nan
            if index == fittest:
                larger = 100 - _train(setting, arm.space, genotype, large, longer, seed, bar)[1]
            params = config.complexity(cast(Genotype, genotype)).params
            searched.append(Searched(seed, individuals, best, params, short, 100 - test, larger))
    return searched


def _config(setting: StudySetting) -> HierarchicalConfig:
    return cast(HierarchicalConfig, setting.training_config)


def _train(
    setting: StudySetting,
    space: str,
    genotype: Architecture,
    config: HierarchicalConfig,
    recipe: Recipe,
    seed: int,
    bar: Progress,
) -> tuple[float, float]:
    """Validation and test accuracy, from the store where the same training is there."""
    job = training_job(setting, seed, space=space, config=config, recipe=recipe)
    (record,) = trainings(setting, job, [genotype], bar)
    return record.validation_accuracy, record.test_accuracy


class _Counts:
    """Parameters of the networks of a search; many steps share a genotype."""

    def __init__(self, setting: StudySetting) -> None:
        self._config = _config(setting)
        self._spaces = {name: load_space(name) for name in SPACES}
        self._known: dict[tuple[str, str], int] = {}

    def params(self, space: str, individual: Individual) -> int:
        """Parameters of an individual's network."""
        key = (space, individual.canonical)
        if key not in self._known:
            genotype = cast(Genotype, self._spaces[space].parse(individual.canonical))
            self._known[key] = self._config.complexity(genotype).params
        return self._known[key]

    def large_params(self, space: str, individual: Individual) -> int:
        """Parameters of the larger network."""
        channels, cells = WIDER * self._config.channels, DEEPER * self._config.cells
        genotype = cast(Genotype, self._spaces[space].parse(individual.canonical))
        return replace(self._config, channels=channels, cells=cells).complexity(genotype).params


def moving_mean(values: Floats, window: int) -> Floats:
    """Means of `window` steps that end at each, float64 [n]; of fewer at the start. NaN steps are left out."""
    known = ~np.isnan(values)
    sums, counts = (np.cumsum(np.where(known, row, 0.0)) for row in (values, np.ones_like(values)))
    for row in (sums, counts):
        row[window:] -= row[:-window].copy()
    means: Floats = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def _fitness(individuals: Sequence[Individual]) -> Floats:
    """Fitness by step, NaN for none."""
    return np.array([np.nan if each.fitness is None else each.fitness for each in individuals])


def _figures(trained: dict[Arm, list[Searched]], counts: _Counts) -> Iterator[StudyFigure]:
    for fitness in dict.fromkeys(arm.fitness for arm in trained):
        arms = {arm: searches for arm, searches in trained.items() if arm.fitness == fitness}
        unit = "validation accuracy (%)" if fitness == ACCURACY else f"{fitness} score"
        yield StudyFigure(
            f"best-{fitness}",
            f"Best {unit} so far; mean of the seeds, and from their least to their largest",
            _curves(arms, lambda _, rows: np.fmax.accumulate(_fitness(rows)), f"best {unit}"),
        )
        yield StudyFigure(
            f"fitness-{fitness}",
            f"{unit.capitalize()} by step, mean of the last tenth of the steps",
            _curves(arms, lambda _, rows: _smooth(_fitness(rows)), unit),
        )
        yield StudyFigure(
            f"params-{fitness}",
            "Parameters of the networks by step, mean of the last tenth of the steps",
            _curves(
                arms,
                lambda arm, rows: _smooth(np.array([float(counts.params(arm.space, row)) for row in rows])),
                "parameters",
            ),
        )
        for space in SPACES:
            best = _fittest(arms[Arm(fitness, space, "evolution")])
            genotype = cast(Genotype, load_space(space).parse(best.best.canonical))
            yield StudyFigure(
                f"{space}-by-{fitness}",
                f"The cell that evolution found in {space} by {fitness}, seed {best.seed}",
                png_bytes(draw_genotype(genotype)),
            )


def _smooth(values: Floats) -> Floats:
    return moving_mean(values, max(1, len(values) // WINDOW_SHARE))


def _curves(arms: dict[Arm, list[Searched]], series: Any, y_label: str) -> bytes:
    """A curve for each arm: mean over seeds of `series(arm, individuals)` with a band over the seeds."""
    drawn = []
    for arm, searches in arms.items():
        values = np.array([series(arm, search.individuals) for search in searches])
        steps = list(range(1, values.shape[1] + 1))
        mean, low, high = values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist()
        drawn.append(Curve(arm.name, steps, mean, low, high))
    return curves(drawn, x_label="step", y_label=y_label)


def _fittest(searches: Sequence[Searched]) -> Searched:
    return max(searches, key=lambda search: fitness_or_least(search.best))


def _table(setting: StudySetting, trained: dict[Arm, list[Searched]]) -> StudyTable:
    heads = (
        Head("Space", is_text=True),
        Head("Search", is_text=True),
        Head("Fitness", is_text=True),
        Head("Steps", "Individuals of a search, the initial population among them."),
        Head("Evaluated", "Mean over seeds; individuals that are equal share one evaluation."),
        Head("Seconds", "That evaluations took, mean over seeds."),
        Head("Validation accuracy (%)", "Of the fittest, by the recipe of the fitness accuracy."),
        Head("Test error (%)", f"Of the fittest, by the same recipe with {LONGER} times the epochs."),
        Head("Parameters", "Of the fittest, mean over seeds."),
    )
    rows = [
        (
            arm.space,
            arm.method,
            arm.fitness,
            f"{_steps(setting, arm):,}",
            f"{np.mean([search.evaluated for search in searches]):,.0f}",
            f"{np.mean([search.seconds for search in searches]):,.0f}",
            hundredths(mean_over_seeds(np.array([search.short for search in searches]))),
            hundredths(mean_over_seeds(np.array([search.error for search in searches]))),
            f"{np.mean([search.params for search in searches]):,.0f}",
        )
        for arm, searches in trained.items()
    ]
    note = (
        f"{several(len(seeds_of(setting)), 'seed')} each; intervals of 95 % by Student's t over seeds. Accuracy "
        f"is that after {several(setting.recipe.epochs, 'epoch')} by the recipe {setting.recipe.name}."
    )
    return StudyTable("What each search found", heads, tuple(rows), note)


def _transfer_table(setting: StudySetting, trained: dict[Arm, list[Searched]], counts: _Counts) -> StudyTable:
    config = _config(setting)
    heads = (
        Head("Space", is_text=True),
        Head("Search", is_text=True),
        Head("Fitness", is_text=True),
        Head("Search network", "Parameters."),
        Head("Its test error (%)"),
        Head("Larger network", "Parameters."),
        Head("Its test error (%)"),
    )
    rows = []
    for arm, searches in trained.items():
        best = _fittest(searches)
        rows.append(
            (
                arm.space,
                arm.method,
                arm.fitness,
                f"{best.params:,}",
                f"{best.error:.1f}",
                f"{counts.large_params(arm.space, best.best):,}",
                f"{best.large_error:.1f}",
            )
        )
    note = (
        f"The fittest of all seeds; {WIDER * config.channels} channels and "
        f"{several(DEEPER * config.cells, 'cell')} a stage instead of {config.channels} and {config.cells}. One "
        "training each, so no interval."
    )
    return StudyTable("The cells found, moved to a larger network", heads, tuple(rows), note)


def _sentences(setting: StudySetting, trained: dict[Arm, list[Searched]]) -> Iterator[str]:
    scorer = setting.scorers[0]
    for space in SPACES:
        evolved, drawn = (trained[Arm(ACCURACY, space, method)] for method in METHODS)
        gains = [fitness_or_least(e.best) - fitness_or_least(d.best) for e, d in _pairs(evolved, drawn)]
        gain = mean_over_seeds(np.array(gains))
        less = mean_over_seeds(np.array([d.error - e.error for e, d in _pairs(evolved, drawn)]))
        yield (
            f"In {space} evolution finds a fitness {points(gain)} points above random search's in as many steps, "
            f"and after the longer training its error is {points(less)} points lower: that evolution is better "
            f"{verdict(less)}."
        )
    one, other = (trained[Arm(ACCURACY, space, "evolution")] for space in SPACES)
    less = mean_over_seeds(np.array([f.error - h.error for h, f in _pairs(one, other)]))
    yield (
        f"Evolved hierarchical cells have an error {points(less)} points lower than evolved flat ones: that the "
        f"hierarchy helps {verdict(less)}."
    )
    scored = trained[Arm(scorer, "hierarchical", "evolution")]
    less = mean_over_seeds(np.array([a.error - s.error for a, s in _pairs(one, scored)]))
    seconds = [sum(search.seconds for search in searches) / len(searches) for searches in (scored, one)]
    yield (
        f"Evolution by {scorer} takes {seconds[0]:,.0f} s for {setting.sample or SCORED_STEPS:,} steps where "
        f"evolution by accuracy takes {seconds[1]:,.0f} s for {setting.budget:,}; what it finds in hierarchical "
        f"has an error {points(less)} points lower: that the score finds better cells {verdict(less)}."
    )


def _pairs(one: Sequence[Searched], other: Sequence[Searched]) -> Iterator[tuple[Searched, Searched]]:
    """Searches of two arms that share a seed."""
    return zip(one, other, strict=True)


def _data(trained: dict[Arm, list[Searched]], counts: _Counts) -> pd.DataFrame:
    """A row an individual."""
    return pd.DataFrame(
        {
            **arm._asdict(),
            "seed": search.seed,
            "step": row.step,
            "parent": row.parent,
            "finished": row.finished,
            "value": row.fitness,
            "params": counts.params(arm.space, row),
            "seconds": row.evaluation_seconds,
            "architecture": row.architecture,
            "found": row.step == search.best.step,
            "error": search.error if row.step == search.best.step else np.nan,
            "large_error": search.large_error if row.step == search.best.step else np.nan,
        }
        for arm, searches in trained.items()
        for search in searches
        for row in search.individuals
    )


STUDY = Study(
    "hierarchical",
    "Hierarchical cells and evolution",
    "Do motifs of motifs help, does evolution beat random search, and can a score take the place of training?",
    study_hierarchical,
)
