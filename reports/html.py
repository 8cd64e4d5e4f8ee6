"""Parts of a self-contained HTML page, and how a page and its pictures are written."""

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from xml.sax.saxutils import quoteattr

from spaces.errors import InputError


@dataclass(frozen=True)
class Head:
    """The head of a table column."""

    name: str
    help: str = ""
    is_text: bool = False


def section(title: str, *content: str) -> str:
    """A section of HTML parts."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *content, "</section>"])


def note(text: str) -> str:
    """A quiet paragraph of plain text."""
    return f'<p class="note">{escape(text)}</p>'


def image(png: bytes, description: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(heads: Sequence[Head], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text that becomes a list of cards where the window is narrow."""
    kinds = [' class="text"' if head.is_text else "" for head in heads]
    head_cells = [
        f'<th scope="col"{kind}{f" title={quoteattr(head.help)}" if head.help else ""}>{escape(head.name)}</th>'
        for head, kind in zip(heads, kinds, strict=True)
    ]
    lines = [f'<div class="card"><table class="stacked"><thead><tr>{"".join(head_cells)}</tr></thead><tbody>']
    for row in rows:
        cells = [
            f"<td{kind} data-head={quoteattr(head.name)}><span>{_cell(text)}</span></td>"
            for head, kind, text in zip(heads, kinds, row, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Escaped text, an interval's brackets and what follows them set apart."""
    return re.sub(r"^(-?\d\.\d+) (\[.*\].*)$", r'\1 <span class="brackets">\2</span>', escape(text))


def facts(named: Mapping[str, str]) -> str:
    """A quiet table of named facts, all plain text."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in named.items()
    )
    return f'<div class="card"><table class="provenance">{rows}</table></div>'


def fill_page(title: str, summary: str, sections: Iterable[str], points: str = '{"labels":[],"plots":[]}') -> str:
    """The page around sections of HTML; title and summary are plain text, `points` JSON for hovering."""
    template = Template(resources.files("reports").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title), summary=escape(summary), sections="\n".join(sections), points=points
    )


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, made if need be, each all or nothing. Raises `InputError` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _replace(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write the report to {folder}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees half of it and a failure leaves nothing behind."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
