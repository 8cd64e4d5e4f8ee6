"""Scores from a store beside the truth: what the statistics are computed on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.records import ScoreContext
from harness.scorers.base import load_scorer
from harness.store import Store
from harness.truth import TruthTable
from spaces.base import AnySpace, Architecture, Complexity, NetworkConfig
from spaces.errors import InputError
from spaces.registry import load_space

TRAINED = "trained"
"""The name that stands for the trainings in the store where a truth table is asked for."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Trained accuracy in percent of an architecture text, None where it is not known.

    `partial` truth is known to cover only what was trained: what it lacks is left out without asking.
    """

    name: str
    lookup: Callable[[str], float | None]
    partial: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """One ranking beside the truth, same length: NaN in `scores` where there is none, with its reasons counted.

    Higher scores are better. `context` is None for rankings that are not scores; `computed` and `seconds` say
    what the scores cost, in wall clock of the runs that computed them; `copied` counts those of earlier scorers
    that cost nothing here.
    """

    scorer: str
    truth: str
    labels: tuple[str, ...]
    scores: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    unscored: Mapping[str, int]
    context: ScoreContext | None = None
    computed: int = 0
    seconds: float = 0.0
    copied: Mapping[str, int] = field(default_factory=dict)


def table_truth(table: TruthTable, column: str | None, space: AnySpace) -> Truth:
    """Column of a truth table, by the texts of the space. Raises `InputError` where the column is missing."""
    if column is None:
        raise InputError(f"--truth {table.path} needs --column; it has {', '.join(table.numeric_columns())}")
    return Truth(column, table_column(table, column, space).get)


def table_column(table: TruthTable, column: str, space: AnySpace) -> dict[str, float]:
    """Known values of a column by the space's own text, whichever of its notations the table has.

    A text that is none of the space stands as it is: a table may hold more than one space.
    """
    values = table.column(column).dropna()
    return {_own_text(space, str(architecture)): float(value) for architecture, value in values.items()}


def _own_text(space: AnySpace, text: str) -> str:
    try:
        return str(space.parse(text))
    except InputError:
        return text


def newest_training(store: Store, space: str) -> int:
    """Number of the newest training context of a space. Raises `InputError` where there is none."""
    found = [number for number, context in store.training_contexts().items() if context.space == space]
    if not found:
        raise InputError(f"--store {store.path} holds no trainings in space {space}; `tfnas train` makes them")
    return max(found)


def trained_truth(store: Store, number: int, column: str | None) -> Truth:
    """Accuracies of one training context, for every architecture that the trained ones stand for.

    `column` is test_accuracy (default) or validation_accuracy; the truth is named as tables name theirs.
    Raises `InputError` for another column.
    """
    column = column or "test_accuracy"
    if column not in ("test_accuracy", "validation_accuracy"):
        raise InputError(f"unknown --column {column!r} of trainings; allowed: test_accuracy, validation_accuracy")
    context = store.training_contexts()[number]
    values = {record.canonical: float(getattr(record, column)) for record in store.trainings(number).values()}
    space = load_space(context.space)

    def lookup(architecture: str) -> float | None:
        return values.get(str(space.canonical(space.parse(architecture), "live")))

    split = {"test_accuracy": "test", "validation_accuracy": "val"}[column]
    data = Path(context.dataset.partition(":")[2] or context.dataset).stem
    return Truth(f"{split}_{data}_{json.loads(context.recipe)['epochs']}ep", lookup, partial=True)


def matching_contexts(
    store: Store, space: str, scorers: Sequence[str] = (), dataset: str | None = None
) -> list[int]:
    """Numbers of the score contexts of a space, only of these scorers and this data set where given.

    Raises:
        InputError: unknown scorer, or none holds a score.
    """
    for scorer in scorers:
        load_scorer(scorer)
    found = [
        number
        for number, context in store.score_contexts().items()
        if context.space == space
        and (not scorers or context.scorer in scorers)
        and dataset in (None, context.dataset)
        and store.asked_scores(number)
    ]
    if not found:
        wanted = f"{' or '.join(scorers) or 'any scorer'} on {dataset or 'any data set'} in space {space}"
        raise InputError(f"--store {store.path} holds no scores of {wanted}; `tfnas score` makes them")
    return found


def compare(
    store: Store,
    contexts: Sequence[int],
    truth: Truth,
    *,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    drop_missing: bool = False,
) -> list[Comparison]:
    """Score contexts of one space beside the truth, then parameters, FLOPs and the `baselines`.

    Args:
        baselines: other rankings by name, each from architecture text to value.
        drop_missing: leave out architectures that the truth lacks, instead of an error.

    Raises:
        InputError: architectures that the truth lacks.
    """
    everything = store.score_contexts()
    chosen = {number: everything[number] for number in contexts}
    names = _distinct_names(chosen)
    comparisons = [_of_scores(store, number, names[number], truth, drop_missing) for number in chosen]
    labels = list(dict.fromkeys(label for comparison in comparisons for label in comparison.labels))
    scored = {context.scorer for context in chosen.values()}
    sizes = _complexities(chosen[contexts[0]], labels)
    rankings = {**{name: sizes[name] for name in sizes if name not in scored}, **(baselines or {})}
    return comparisons + [_of_baseline(name, values, labels, truth) for name, values in rankings.items()]


def _of_scores(store: Store, number: int, name: str, truth: Truth, drop_missing: bool) -> Comparison:
    everything = store.score_contexts()
    context = everything[number]
    asked = store.asked_scores(number)
    found = [(architecture, record, truth.lookup(architecture)) for architecture, record in asked]
    missing = [architecture for architecture, _, accuracy in found if accuracy is None]
    if len(missing) == len(asked):
        raise InputError(
            f"all {len(asked)} scored architectures are missing from the truth {truth.name}, "
            f"for example {missing[0]}"
        )
    if missing and not (drop_missing or truth.partial):
        raise InputError(
            f"{len(missing)} of {len(asked)} scored architectures are missing from the truth {truth.name}, "
            f"for example {missing[0]}; --drop-missing leaves them out"
        )
    kept = [(architecture, record, accuracy) for architecture, record, accuracy in found if accuracy is not None]
    direction = 1.0 if load_scorer(context.scorer).higher_is_better else -1.0
    runs = store.score_runs(number)
    return Comparison(
        scorer=name,
        truth=truth.name,
        labels=tuple(architecture for architecture, _, _ in kept),
        scores=np.array([np.nan if record.value is None else direction * record.value for _, record, _ in kept]),
        accuracies=np.array([accuracy for _, _, accuracy in kept]),
        unscored=Counter(record.reason for _, record, _ in kept if record.reason is not None),
        context=context,
        computed=sum(run.computed for run in runs),
        seconds=sum(run.seconds for run in runs),
        copied=_copied(store, number, everything),
    )


def _copied(store: Store, number: int, everything: Mapping[int, ScoreContext]) -> dict[str, int]:
    """Scores of a context that were copied from one made before it, by that one's scorer."""
    twins = load_scorer(everything[number].scorer).twins
    found = {
        context.scorer: store.shared_scores(number, earlier)
        for earlier, context in everything.items()
        if earlier < number and context.scorer in twins
    }
    return {scorer: count for scorer, count in found.items() if count}


def _of_baseline(name: str, values: Mapping[str, float], labels: Sequence[str], truth: Truth) -> Comparison:
    accuracies = [truth.lookup(label) for label in labels]
    absent = sum(label not in values for label in labels)
    return Comparison(
        scorer=name,
        truth=truth.name,
        labels=tuple(labels),
        scores=np.array([values.get(label, np.nan) for label in labels]),
        accuracies=np.array([np.nan if accuracy is None else accuracy for accuracy in accuracies]),
        unscored={"no value": absent} if absent else {},
    )


def _complexities(context: ScoreContext, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Parameters and FLOPs of the scored networks as rankings; none where the space has no rule."""
    space = load_space(context.space)
    settings = json.loads(context.settings)
    # A setting that the space got later had its default then.
    known = {field.name: settings[field.name] for field in fields(space.config_type) if field.name in settings}
    config = space.config_type(**known)
    found = {label: _complexity(space, space.parse(label), config) for label in labels}
    return {
        name: {label: float(getattr(value, name)) for label, value in found.items() if value is not None}
        for name in ("params", "flops")
        if any(found.values())
    }


def _complexity(space: AnySpace, architecture: Architecture, config: NetworkConfig) -> Complexity | None:
    """Parameters and FLOPs; None where the space has no rule or the network cannot be run to count them."""
    try:
        return space.complexity(architecture, config)
    except Exception:  # a network of the user or of a library may raise anything on images that it cannot take
        return None


def _distinct_names(contexts: Mapping[int, ScoreContext]) -> dict[int, str]:
    """The scorer's name, and in brackets whatever tells two contexts of one scorer apart."""
    names = {}
    for number, context in contexts.items():
        same = [other for other in contexts.values() if other.scorer == context.scorer]
        differing = [
            f"{name} {getattr(context, name)}"
            for name in ("dataset", "seed", "batch_size", "device", "backend", "settings", "batch")
            if len({getattr(other, name) for other in same}) > 1
        ]
        names[number] = f"{context.scorer} ({', '.join(differing)})" if differing else context.scorer
    return names
