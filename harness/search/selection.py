"""Who is mutated next (Liu et al., ICLR 2018, section 3.2; Real et al., AAAI 2019), and the same from a trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.search.evaluations import Individual
from spaces.base import AnySpace, Architecture
from spaces.errors import InputError
from spaces.weights import keyed_generator


@dataclass(frozen=True)
class Selection:
    """How parents are chosen: the fittest of `tournament`, a share of the population drawn at random.

    The first `population` individuals are drawn from the space (None: all are, which is random search). With
    `ages` only the newest `population` that are finished count, so the oldest is removed (regularised evolution);
    else the population only grows.

    Raises:
        InputError: a value out of its range.
    """

    population: int | None = 200
    tournament: float = 0.05
    ages: bool = False

    def __post_init__(self) -> None:
        if self.population is not None and self.population < 1:
            raise InputError(f"--population must be at least 1, not {self.population}")
        if not 0 < self.tournament <= 1:
            raise InputError(f"--tournament must be above 0 and at most 1, not {self.tournament}")

    def propose(
        self, space: AnySpace, seed: int, step: int, fit: Sequence[Individual]
    ) -> tuple[Architecture, int | None]:
        """Architecture of a step and the step of its parent, given those with a fitness in the order finished."""
        rng = keyed_generator(seed, f"evolution step {step}")
        if self.population is None or step < self.population or not fit:
            return space.sample(rng), None
        parent = self._winner(fit[-self.population :] if self.ages else fit, rng)
        return space.mutate(space.parse(parent.architecture), rng), parent.step

    def _winner(self, members: Sequence[Individual], rng: np.random.Generator) -> Individual:
        """The fittest of a tournament; of equals the one that was finished first."""
        drawn = rng.choice(len(members), math.ceil(self.tournament * len(members)), replace=False)
        winner: Individual = max((members[index] for index in sorted(drawn.tolist())), key=fitness_or_least)
        return winner


def fitness_or_least(individual: Individual) -> float:
    """Fitness, below every other where there is none."""
    return -math.inf if individual.fitness is None else individual.fitness


SELECTIONS = {
    "evolution": Selection(),
    "regularised": Selection(ages=True),
    "random": Selection(population=None),
}
"""Tournament selection as in the paper, regularised evolution (Real et al., AAAI 2019), random search."""


def in_order(individuals: Sequence[Individual]) -> list[Individual]:
    """Those that are finished, in the order that they were."""
    finished = {individual.finished: individual for individual in individuals if individual.finished is not None}
    return [finished[number] for number in sorted(finished)]


def replay(space: AnySpace, selection: Selection, seed: int, individuals: Sequence[Individual]) -> list[str]:
    """Every proposal of a search anew, by step, from its trace: equal to what the store holds."""
    finished = in_order(individuals)
    proposals = []
    for individual in individuals:
        fit = [earlier for earlier in finished[: individual.known] if earlier.fitness is not None]
        architecture, _ = selection.propose(space, seed, individual.step, fit)
        proposals.append(str(architecture))
    return proposals
