"""Score against accuracy: the article's Figure 3, and within the best halves and tenths, where it counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.html import Head
from reports.plots import scatter
from reports.statistics import Agreement, Floats, agreement
from reports.studies.accuracies import Accuracies, AccuracyColumn, load_accuracies
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.scores import counts, measure
from reports.studies.words import part_name, several, verdict

SAMPLE = 1000
"""Networks of each plot in the article's Figure 3."""

PARTS = (1.0, 0.5, 0.1)
"""Of the architectures ordered by trained accuracy, the best so many."""

ARTICLE = {("nasbench201", "val_cifar10_200ep"): 0.574, ("nasbench201", "val_ImageNet16-120_200ep"): 0.549}
"""Kendall's tau printed over the article's Figure 3."""


def study_scatter(setting: StudySetting, bars: Bars) -> Findings:
    """Correlations of every scorer, and of parameters and FLOPs, with every final accuracy, whole and in parts."""
    accuracies = load_accuracies(setting)
    chosen = accuracies.sample(setting.sample or SAMPLE, setting.seed)
    rankings: dict[str, Floats] = {}
    for scorer in setting.scorers:
        with bars(f"score {scorer}", len(chosen)) as bar:
            rankings[scorer] = measure(setting, chosen, bar, scorer=scorer)
    rankings |= counts(setting, chosen)
    columns = _columns(accuracies)
    found = {
        (column, part): [agreement(name, column, values[best], truth[best]) for name, values in rankings.items()]
        for column in columns
        for truth in [accuracies.values(column, chosen)]
        for part in PARTS
        for best in [_best(truth, part)]
    }
    figures = [
        _figure(scorer, rankings[scorer], column, accuracies.values(column, chosen), found[column, 1.0])
        for column in columns
        for scorer in setting.scorers
    ]
    return Findings(
        sentences=tuple(_sentences(setting, columns, found)),
        tables=(_table(setting, found),),
        figures=tuple(figures),
        data=pd.DataFrame({"part": part, **row.as_row()} for (_, part), rows in found.items() for row in rows),
    )


def _columns(accuracies: Accuracies) -> list[str]:
    """The study's column, then the other final accuracies."""
    final: list[AccuracyColumn] = accuracies.final()
    return list(dict.fromkeys([accuracies.column, *(column.name for column in final)]))


def _best(truth: Floats, part: float) -> np.ndarray:
    """Whether each accuracy [n] is among the best part of those that are known."""
    return truth >= np.nanquantile(truth, 1 - part)


def _figure(scorer: str, scores: Floats, column: str, truth: Floats, rows: list[Agreement]) -> StudyFigure:
    (row,) = (row for row in rows if row.scorer == scorer)
    picture = scatter(scores, truth, scorer=scorer, truth_name=column, agreement=row)
    return StudyFigure(f"{scorer}-{column}", f"{scorer} against {column}", picture.png)


def _table(setting: StudySetting, found: dict[tuple[str, float], list[Agreement]]) -> StudyTable:
    heads = (
        Head("Ranking", is_text=True),
        Head("Accuracy", "Column of the truth.", True),
        Head("Among", "Architectures, by that accuracy.", True),
        Head("n", "Architectures with a score; those without are left out, as in the authors' program."),
        Head("Kendall"),
        Head("Spearman"),
        Head("Article", "Kendall in Figure 3 of the article, over 1,000 networks of its own draw."),
    )
    rows = [
        (
            row.scorer,
            column,
            part_name(part),
            f"{row.n:,}",
            str(row.kendall),
            str(row.spearman),
            _article(setting, row.scorer, column, part),
        )
        for (column, part), group in found.items()
        for row in group
    ]
    return StudyTable("Rank correlation with trained accuracy", heads, tuple(rows))


def _article(setting: StudySetting, scorer: str, column: str, part: float) -> str:
    printed = ARTICLE.get((setting.space.name, column))
    return f"{printed:.3f}" if printed and part == 1 and scorer.startswith("naswot") else ""


def _sentences(
    setting: StudySetting, columns: list[str], found: dict[tuple[str, float], list[Agreement]]
) -> list[str]:
    scorer, column = setting.scorers[0], columns[0]
    whole, half, tenth = (next(row for row in found[column, part] if row.scorer == scorer) for part in PARTS)
    sentences = [
        f"The article's claim that the score correlates with trained accuracy {verdict(whole.kendall)}: over "
        f"{several(whole.n, 'architecture')} {scorer} has Kendall's tau {whole.kendall} with {column}.",
        f"Among the best half tau is {half.kendall} and among the best tenth {tenth.kendall}: that the score "
        f"ranks good architectures among themselves {verdict(tenth.kendall)}.",
    ]
    best = max(found[column, 1.0], key=lambda row: row.kendall.value)
    if best.scorer != scorer:
        sentences.append(f"{best.scorer} ranks better than {scorer} on {column}, with tau {best.kendall}.")
    printed = ARTICLE.get((setting.space.name, column))
    if printed and scorer.startswith("naswot"):
        place = "inside" if whole.kendall.low <= printed <= whole.kendall.high else "outside"
        sentences.append(f"The article prints {printed} for this column, which lies {place} our interval.")
    return sentences


STUDY = Study(
    "scatter",
    "Score against trained accuracy",
    "How well does the score of an untrained network rank trained accuracy, and does it still among the best?",
    study_scatter,
)
