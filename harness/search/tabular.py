"""Searches against a table of accuracies instead of trainings: hundreds of runs at once, all in integers.

Every function takes an explicit generator and moves all runs one step together. An answer is a row of the table.
What a search costs is counted in short trainings: one that lasts ten times as long costs ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from spaces.base import Architecture

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

POPULATION, TOURNAMENT = 10, 3
"""Of regularised evolution in the benchmark's own example (AutoDL-Projects, NAS-Bench-201-algos/R-EA.sh)."""

AREA_DRAWS = 20
"""Architectures that AREA scores for its first population (Mellor et al., ICML 2021, section 5)."""

LEARNING_RATE, BASELINE_MOMENTUM, INITIAL_SPREAD = 0.01, 0.9, 1e-3
ADAM_MOMENTA, ADAM_EPSILON = (0.9, 0.999), 1e-8
"""Of REINFORCE in the benchmark's own program (AutoDL-Projects, NATS-algos/reinforce.py): Adam, a moving mean."""

CANDIDATES, BANDWIDTH, GOOD_SHARE = 4, 0.3, 0.15
"""Of BOHB: candidates a step and least bandwidth as in NATS-algos/bohb.py, the share called good as in BOHB."""


@runtime_checkable
class OnEdges(Protocol):
    """An architecture that is one operation on each of a fixed number of edges."""

    operations: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """All architectures of a space of independent choices, and what is known about each of the n.

    `choices` [n, edges] numbers the operation of each edge, `rows` [kinds ** edges] finds a row by
    `choices @ kinds ** (0, 1, ...)`. `short` and `full` are validation accuracies float64 [n] after the short
    and the full training, which is `full_cost` times as long; `scores` [n], NaN for none, need no training.
    """

    choices: Integers
    rows: Integers
    kinds: int
    short: Floats
    full: Floats
    full_cost: float
    scores: Floats
    scored: Integers

    def find(self, choices: Integers) -> Integers:
        """Rows [...] of choices [..., edges]."""
        return np.take(self.rows, choices @ _place_values(self.kinds, choices.shape[-1]))

    def draw(self, size: tuple[int, ...], rng: np.random.Generator) -> Integers:
        """Rows, uniformly."""
        return rng.integers(len(self.short), size=size)

    def mutate(self, rows: Integers, rng: np.random.Generator) -> Integers:
        """Of each row [runs] a neighbour: another operation on one edge, uniformly."""
        choices = self.choices[rows]
        run, edge = np.arange(len(rows)), rng.integers(choices.shape[1], size=len(rows))
        choices[run, edge] = (choices[run, edge] + rng.integers(1, self.kinds, size=len(rows))) % self.kinds
        return self.find(choices)


Search = Callable[[Table, int, int, np.random.Generator], Integers]
"""(table, budget, runs, rng) -> the answer [runs, budget] of each run after each unit of cost."""


def tabulate(
    architectures: Sequence[Architecture],
    *,
    short: Floats,
    full: Floats,
    full_cost: float,
    scores: Floats,
    scored: Integers,
) -> Table | None:
    """Table of architectures and their values [n], in this order.

    None where the architectures are not all combinations of operations, or an accuracy is missing: then a search
    could ask for what the table cannot answer.
    """
    if np.isnan(short).any() or np.isnan(full).any():
        return None
    texts = [architecture.operations for architecture in architectures if isinstance(architecture, OnEdges)]
    kinds = sorted({operation for operations in texts for operation in operations})
    number = {operation: index for index, operation in enumerate(kinds)}
    edges = len(texts[0]) if texts else 0
    if not texts or len(texts) < len(architectures) or len(set(texts)) != len(kinds) ** edges:
        return None
    choices = np.array([[number[operation] for operation in operations] for operations in texts], np.int64)
    rows = np.empty(len(choices), np.int64)
    rows[choices @ _place_values(len(kinds), edges)] = np.arange(len(choices))
    return Table(choices, rows, len(kinds), short, full, full_cost, scores, scored)


def best_of_draws(values: Floats, draws: int, runs: int, rng: np.random.Generator) -> Integers:
    """Of each run the index [runs] of the largest of `draws` values, drawn without replacement; NaN is least.

    With scores it is NASWOT's search (Mellor et al., ICML 2021, algorithm 1), with accuracies its optimum.
    """
    known = np.where(np.isnan(values), -np.inf, values)
    drawn = np.stack([rng.choice(len(known), draws, replace=False) for _ in range(runs)])
    return _best(drawn, known)


def random_search(table: Table, budget: int, runs: int, rng: np.random.Generator) -> Integers:
    """Train what is drawn, answer the most accurate."""
    return _best_so_far(table.draw((runs, budget), rng), table.short)


def regularised_evolution(table: Table, budget: int, runs: int, rng: np.random.Generator) -> Integers:
    """Population of 10, the fittest of 3 mutated, the oldest removed (Real et al., AAAI 2019)."""
    return _evolve(table, budget, table.draw((runs, POPULATION), rng), rng)


def area(table: Table, budget: int, runs: int, rng: np.random.Generator) -> Integers:
    """The same from the 10 of highest score among 20 (AREA, Mellor et al., ICML 2021, algorithm 2)."""
    known = np.where(np.isnan(table.scores), -np.inf, table.scores)
    drawn = rng.choice(table.scored, (runs, AREA_DRAWS))
    best = np.argsort(-known[drawn], axis=1, kind="stable")[:, :POPULATION]
    return _evolve(table, budget, np.take_along_axis(drawn, best, 1), rng)


def reinforce(table: Table, budget: int, runs: int, rng: np.random.Generator) -> Integers:
    """One softmax an edge, raised by how much a drawn architecture beats the moving mean of accuracies."""
    edges = table.choices.shape[1]
    logits = INITIAL_SPREAD * rng.standard_normal((runs, edges, table.kinds))
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    baseline = np.zeros(runs)
    trained = np.empty((runs, budget), np.int64)
    for step in range(budget):
        share = np.exp(logits - logits.max(2, keepdims=True))
        share /= share.sum(2, keepdims=True)
        chosen = (share.cumsum(2) < rng.random((runs, edges, 1))).sum(2).clip(max=table.kinds - 1)
        trained[:, step] = table.find(chosen)
        reward = table.short[trained[:, step]]
        baseline += (1 - BASELINE_MOMENTUM) * (reward - baseline)
        gain = reward - baseline / (1 - BASELINE_MOMENTUM ** (step + 1))
        gradient = gain[:, None, None] * (np.eye(table.kinds)[chosen] - share)
        slow, fast = ADAM_MOMENTA
        first += (1 - slow) * (gradient - first)
        second += (1 - fast) * (gradient**2 - second)
        size = np.sqrt(second / (1 - fast ** (step + 1))) + ADAM_EPSILON
        logits += LEARNING_RATE * first / (1 - slow ** (step + 1)) / size
    return _best_so_far(trained, table.short)


def bohb(table: Table, budget: int, runs: int, rng: np.random.Generator) -> Integers:
    """Hyperband over short and full trainings, drawing by densities of good and bad (Falkner et al., ICML 2018).

    The ratio of the two lengths is the factor by which a bracket is cut. The answer is the best of those trained
    in full, before there is one the best short one. One bandwidth serves every edge: the authors' follows the
    spread of the operations' numbers, which means nothing.
    """
    short, full = np.empty((runs, 0), np.int64), np.empty((runs, 0), np.int64)
    answers = np.empty((runs, budget), np.int64)
    bracket, spent = int(table.full_cost), 0.0
    for kind in cycle(["short"] * bracket + ["promoted", "full", "full"]):
        spent += 1 if kind == "short" else table.full_cost
        if spent > budget:
            return answers
        if kind == "promoted":
            full = np.column_stack([full, _best(short[:, -bracket:], table.short)])
        else:
            proposed = _propose(table, short, full, rng)
            short, full = (
                (np.column_stack([short, proposed]), full)
                if kind == "short"
                else (short, np.column_stack([full, proposed]))
            )
        answer = _best(full, table.full) if full.shape[1] else _best(short, table.short)
        answers[:, math.ceil(spent) - 1 :] = answer[:, None]
    raise AssertionError("cycle never ends")


SEARCHES: dict[str, Search] = {
    "random search": random_search,
    "REA": regularised_evolution,
    "AREA": area,
    "REINFORCE": reinforce,
    "BOHB": bohb,
}
"""Searches that train, by the names that the article's table gives them."""


def _place_values(kinds: int, edges: int) -> Integers:
    return np.array([kinds**edge for edge in range(edges)], np.int64)


def _best(rows: Integers, accuracy: Floats) -> Integers:
    """Of rows [runs, n] the most accurate [runs]; of equals the first."""
    best: Integers = rows[np.arange(len(rows)), accuracy[rows].argmax(1)]
    return best


def _best_so_far(trained: Integers, accuracy: Floats) -> Integers:
    """Of rows in the order trained [runs, n] the most accurate up to each; of equals the first."""
    values = accuracy[trained]
    is_new = np.ones(values.shape, bool)
    is_new[:, 1:] = values[:, 1:] > np.maximum.accumulate(values, 1)[:, :-1]
    steps = np.maximum.accumulate(np.where(is_new, np.arange(trained.shape[1]), 0), 1)
    return np.take_along_axis(trained, steps, 1)


def _evolve(table: Table, budget: int, first: Integers, rng: np.random.Generator) -> Integers:
    """Regularised evolution from a first population [runs, 10]: the population is what was trained last."""
    runs = np.arange(len(first))
    trained = np.empty((len(first), max(budget, POPULATION)), np.int64)
    trained[:, :POPULATION] = first
    for step in range(POPULATION, budget):
        drawn = step - POPULATION + rng.integers(POPULATION, size=(len(first), TOURNAMENT))
        parent = _best(trained[runs[:, None], drawn], table.short)
        trained[:, step] = table.mutate(parent, rng)
    return _best_so_far(trained[:, :budget], table.short)


def _propose(table: Table, short: Integers, full: Integers, rng: np.random.Generator) -> Integers:
    """What BOHB trains next [runs]: the candidate most probable among the good relative to the bad."""
    edges = table.choices.shape[1]
    fewest = edges + 1
    trained, accuracy = (full, table.full) if full.shape[1] >= 2 * fewest else (short, table.short)
    runs, count = trained.shape
    if count < 2 * fewest:
        return table.draw((runs,), rng)
    order = np.argsort(-accuracy[trained], axis=1, kind="stable")
    ranked = table.choices[np.take_along_axis(trained, order, 1)]
    good = max(fewest, int(GOOD_SHARE * count))
    origin = ranked[np.arange(runs)[:, None], rng.integers(good, size=(runs, CANDIDATES))]
    kept = rng.random(origin.shape) >= BANDWIDTH
    candidates = np.where(kept, origin, rng.integers(table.kinds, size=origin.shape))
    ratio = _density(candidates, ranked[:, :good], table.kinds) / _density(
        candidates, ranked[:, good:], table.kinds
    )
    return table.find(candidates[np.arange(runs), ratio.argmax(1)])


def _density(candidates: Integers, known: Integers, kinds: int) -> Floats:
    """Kernel density [runs, c] of candidates [runs, c, edges] by what is known [runs, n, edges].

    The kernel is Aitchison and Aitken's: an edge keeps its operation with probability 1 - bandwidth.
    """
    equal = (candidates[:, :, None] == known[:, None]).sum(3)
    other = candidates.shape[2] - equal
    weights = (1 - BANDWIDTH) ** equal * (BANDWIDTH / (kinds - 1)) ** other
    return np.asarray(weights.mean(2), dtype=np.float64)
