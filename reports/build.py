"""From comparisons to statistics, and from those to a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.comparison import Comparison
from harness.machine import versions
from harness.records import ScoreContext
from reports.page import Cost, Ranking, Report
from reports.statistics import Agreement, agreement

Rule = Literal["drop", "last"]


def agreements(
    comparisons: Sequence[Comparison], *, unscored: Rule = "drop", top_k: int = 10, resamples: int = 1000
) -> list[Agreement]:
    """How well each ranking agrees with the truth, in the order given."""
    return [
        agreement(
            comparison.scorer,
            comparison.truth,
            comparison.scores,
            comparison.accuracies,
            unscored=unscored,
            top_k=top_k,
            resamples=resamples,
        )
        for comparison in comparisons
    ]


def build_report(
    title: str,
    comparisons: Sequence[Comparison],
    found: Sequence[Agreement],
    *,
    command: str,
    extra: Sequence[Cost] = (),
) -> Report:
    """The page of these comparisons: table, scatters, cost, reasons and provenance. `extra` are further costs."""
    rankings = tuple(
        Ranking(comparison.scorer, comparison.scores, comparison.accuracies, list(comparison.labels), row)
        for comparison, row in zip(comparisons, found, strict=True)
    )
    costs = [
        Cost(
            comparison.scorer,
            comparison.computed,
            comparison.seconds,
            _circumstances(comparison, comparison.context),
        )
        for comparison in comparisons
        if comparison.context is not None and comparison.computed
    ]
    return Report(
        title=title,
        summary=_summary(found),
        rankings=rankings,
        unscored={comparison.scorer: comparison.unscored for comparison in comparisons if comparison.unscored},
        cost=(*costs, *extra),
        provenance=_provenance(comparisons, command),
    )


def _circumstances(comparison: Comparison, context: ScoreContext) -> str:
    """Where scores were computed, and how many more were not."""
    parts = [f"{context.backend} on {context.device}", f"batch {context.batch_size}"]
    parts += [f"{count:,} more copied from {scorer}" for scorer, count in comparison.copied.items()]
    return ", ".join(parts)


def _summary(found: Sequence[Agreement]) -> str:
    """The finding of the first ranking, and the best of the others beside it."""
    first, *others = found
    text = f"{first.scorer} ranks {first.n} architectures with Kendall's tau {first.kendall} against {first.truth}"
    comparable = [other for other in others if other.kendall.value == other.kendall.value]
    if not comparable:
        return f"{text}."
    best = max(comparable, key=lambda other: other.kendall.value)
    return f"{text}; the best of the other rankings, {best.scorer}, reaches {best.kendall}."


def _provenance(comparisons: Sequence[Comparison], command: str) -> dict[str, str]:
    """Where the numbers came from: one line per fact that the contexts share or differ in."""
    facts = {"command": command, "versions": versions()}
    for comparison in comparisons:
        context = comparison.context
        if context is not None:
            facts[comparison.scorer] = (
                f"space {context.space}, seed {context.seed}, {context.backend} on {context.device}, "
                f"data {context.dataset}, batch {context.batch} of {context.batch_size} images, {context.settings}"
            )
    return facts
