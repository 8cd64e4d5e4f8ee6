"""Findings as files, and the page of all studies whose files lie in a folder."""

from __future__ import annotations

import io
import json
from html import escape
from pathlib import Path
from typing import Any

from harness.machine import versions
from reports.html import Head, facts, fill_page, image, note, section, table, write_files
from reports.studies.base import Findings, Study, StudySetting
from reports.studies.registry import MODULES
from spaces.errors import InputError

TITLE = "What untrained scores can and cannot tell"
SUMMARY = "Each section asks one question and answers it by the numbers below it."


def save_findings(study: Study, findings: Findings, setting: StudySetting, seconds: float, folder: Path) -> Path:
    """Write NAME.parquet, NAME-*.png and NAME.json into a folder, then its page anew; returns the page.

    `seconds` is the wall clock of this run, which is short where the store held the scores already. Raises
    `InputError` where the folder cannot be written.
    """
    pictures = {f"{study.name}-{figure.name}.png": figure.png for figure in findings.figures}
    data = io.BytesIO()
    findings.data.to_parquet(data, index=False)
    document = study_document(study, findings, setting, seconds)
    files = {
        **pictures,
        f"{study.name}.parquet": data.getvalue(),
        f"{study.name}.json": json.dumps(document, indent=2).encode(),
    }
    write_files(folder, files)
    return write_page(folder)


def study_document(study: Study, findings: Findings, setting: StudySetting, seconds: float) -> dict[str, Any]:
    """What NAME.json holds: the answer, and all that is needed to get it again."""
    return {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "sentences": list(findings.sentences),
        "tables": [
            {
                "title": shown.title,
                "note": shown.note,
                "heads": [vars(head) for head in shown.heads],
                "rows": [list(row) for row in shown.rows],
            }
            for shown in findings.tables
        ],
        "figures": [
            {"file": f"{study.name}-{figure.name}.png", "caption": figure.caption} for figure in findings.figures
        ],
        "made": {
            "command": setting.command,
            "seed": str(setting.seed),
            "versions": versions(),
            "seconds": f"{seconds:.1f} of wall clock in this run",
            "data": f"{setting.dataset_name}, fingerprint {setting.dataset.fingerprint}",
            "space": f"{setting.space.name}, {setting.config}",
            "truth": f"{setting.truth.path.name}, {setting.column}" if setting.truth else "none",
            "device": setting.device,
        },
    }


def write_page(folder: Path) -> Path:
    """Make index.html of every study in the folder, in the order of the registry.

    Raises:
        InputError: a file of a study is missing or damaged, or the folder cannot be written.
    """
    documents = [_read(folder / f"{name}.json") for name in MODULES if (folder / f"{name}.json").is_file()]
    sections = [_study_section(document, folder) for document in documents]
    write_files(folder, {"index.html": fill_page(TITLE, SUMMARY, sections).encode()})
    return folder / "index.html"


def _study_section(document: dict[str, Any], folder: Path) -> str:
    answer = "".join(f"<p>{escape(sentence)}</p>" for sentence in document["sentences"])
    figures = [
        f'<figure><div class="frame">{image(_picture(folder / figure["file"]), figure["caption"])}</div>'
        f"<figcaption>{escape(figure['caption'])}. Also in {escape(figure['file'])}.</figcaption></figure>"
        for figure in document["figures"]
    ]
    tables = [
        f"<h3>{escape(shown['title'])}</h3>"
        + table([Head(**head) for head in shown["heads"]], shown["rows"])
        + (note(shown["note"]) if shown["note"] else "")
        for shown in document["tables"]
    ]
    return section(
        document["title"],
        note(document["question"]),
        answer,
        f'<div class="plots">{"".join(figures)}</div>',
        *tables,
        "<details><summary>How it was made</summary>",
        facts(document["made"]),
        "</details>",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as findings of a study: {error}") from error
    return document


def _picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} of a study cannot be read: {error.strerror}; run the study again") from error
