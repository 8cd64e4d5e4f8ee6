"""Our scores beside those that others published, on the same architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.truth.table import ARCHITECTURE_COLUMNS
from reports.html import Head
from reports.statistics import Agreement, Floats, agreement
from reports.studies.base import Bars, Findings, Study, StudyFigure, StudySetting, StudyTable
from reports.studies.figures import interval_rows
from reports.studies.resampling import kendall, kendall_gain, ranks
from reports.studies.scores import counts, measure
from reports.studies.words import names_of, several, verdict
from spaces.base import Architecture
from spaces.errors import InputError

ACCURACY = "val_accuracy"
"""Column of trained accuracy in tables of NAS-Bench-Suite-Zero."""

DATASET = "dataset"

OURS = "(ours)"


@dataclass(frozen=True, eq=False)
class Peers:
    """Published accuracies [n] of some architectures on one data set, and published scores [n] of the same."""

    dataset: str
    truth: Floats
    scores: Mapping[str, Floats]


def study_peers(setting: StudySetting, bars: Bars) -> Findings:
    """Correlation of our and of published scores with published accuracies, for each data set of the table."""
    if setting.peers is None:
        raise InputError("this study compares with published scores: give their table by --peers FILE")
    architectures, published = _read_peers(setting, setting.peers)
    ours: dict[str, Floats] = {}
    for scorer in setting.scorers:
        with bars(f"score {scorer}", len(architectures)) as bar:
            ours[scorer] = measure(setting, architectures, bar, scorer=scorer)
    ours |= {name: values for name, values in counts(setting, architectures).items() if name not in ours}
    found = {peers.dataset: _agreements(ours, peers) for peers in published}
    return Findings(
        sentences=tuple(
            sentence for peers in published for sentence in _sentences(setting.scorers[0], ours, peers)
        ),
        tables=tuple(_table(ours, peers, found[peers.dataset], setting) for peers in published),
        figures=(_figure(found),),
        data=pd.DataFrame({"dataset": name, **row.as_row()} for name, rows in found.items() for row in rows),
    )


def _read_peers(setting: StudySetting, path: Path) -> tuple[list[Architecture], list[Peers]]:
    """Architectures of the table, at most a sample of them, and what it says of them for each data set.

    Raises:
        InputError: no such table, a column is missing, or a text is not of the space.
    """
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--peers {path} cannot be read as Parquet or CSV: {error}") from error
    named = next((name for name in ARCHITECTURE_COLUMNS if name in frame.columns), None)
    if named is None or ACCURACY not in frame.columns:
        raise InputError(f"--peers {path} needs {ACCURACY} and one of {', '.join(ARCHITECTURE_COLUMNS)}")
    if DATASET not in frame.columns:
        frame[DATASET] = path.stem
    kept = list(dict.fromkeys(frame[named].astype(str)))[: setting.sample]
    groups = [
        (str(dataset), group.drop_duplicates(named).set_index(named).reindex(kept))
        for dataset, group in frame.groupby(DATASET, sort=False)
    ]
    published = [
        Peers(
            dataset,
            group[ACCURACY].to_numpy(np.float64),
            {
                str(name): group[name].to_numpy(np.float64)
                for name in group.select_dtypes("number").columns
                if name != ACCURACY
            },
        )
        for dataset, group in groups
    ]
    return [setting.space.parse(text) for text in kept], published


def _rankings(ours: Mapping[str, Floats], peers: Peers) -> dict[str, Floats]:
    """Our scores [n] and the published ones, by the names they have here."""
    return {**{f"{name} {OURS}": values for name, values in ours.items()}, **peers.scores}


def _agreements(ours: Mapping[str, Floats], peers: Peers) -> list[Agreement]:
    """Agreement of every ranking with the accuracies, the best first."""
    found = [
        agreement(name, ACCURACY, values, peers.truth, unscored="last")
        for name, values in _rankings(ours, peers).items()
    ]
    return sorted(found, key=lambda row: -np.nan_to_num(row.kendall.value, nan=-2))


def _table(ours: Mapping[str, Floats], peers: Peers, rows: list[Agreement], setting: StudySetting) -> StudyTable:
    scorer = setting.scorers[0]
    heads = (
        Head("Ranking", is_text=True),
        Head("Kendall"),
        Head("Spearman"),
        Head(f"Kendall with {scorer}", "How far the two rank alike."),
    )
    rankings = _rankings(ours, peers)
    shown = [
        (
            row.scorer,
            str(row.kendall),
            str(row.spearman),
            f"{kendall(ranks(rankings[row.scorer]), ranks(ours[scorer])):.3f}",
        )
        for row in rows
    ]
    note = (
        f"{several(len(peers.truth), 'architecture')} of the table; accuracies, and scores without {OURS}, as "
        f"published; ours on images of {setting.dataset_name}, batch {setting.batch_size}. Without a score: last."
    )
    return StudyTable(f"Ours and published scores, accuracy on {peers.dataset}", heads, tuple(shown), note)


def _figure(found: Mapping[str, list[Agreement]]) -> StudyFigure:
    names = [row.scorer for row in next(iter(found.values()))]
    groups = []
    for dataset, rows in found.items():
        by_name = {row.scorer: row.kendall for row in rows}
        groups.append((dataset, [by_name[name] for name in names]))
    picture = interval_rows(names, groups, x_label="Kendall with published accuracy")
    return StudyFigure("tau", "Kendall of each ranking with published accuracy", picture)


def _sentences(scorer: str, ours: Mapping[str, Floats], peers: Peers) -> list[str]:
    mine = ranks(ours[scorer])
    taus = {name: kendall(ranks(values), peers.truth) for name, values in peers.scores.items()}
    best = max(taus, key=lambda name: -2 if np.isnan(taus[name]) else taus[name])
    gain = kendall_gain(mine, ranks(peers.scores[best]), peers.truth)
    sentences = [
        f"On {peers.dataset} {scorer} has tau {kendall(mine, peers.truth):.3f}, the best published score ({best}) "
        f"{taus[best]:.3f}: that {scorer} ranks better {verdict(gain)} (difference {gain})."
    ]
    both = [name for name in ours if name in peers.scores]
    if both:
        same = [f"{name} {kendall(ranks(ours[name]), ranks(peers.scores[name])):.3f}" for name in both]
        sentences.append(f"What we and they computed both, ranks alike with tau: {names_of(same)}.")
    return sentences


STUDY = Study(
    "peers",
    "Beside published scores",
    "How do our scores rank beside those that others published, on the same architectures?",
    study_peers,
)
