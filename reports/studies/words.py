"""Texts that studies share: figures, verdicts on claims, tables for the console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from reports.statistics import Floats, Interval
from reports.studies.base import StudyTable


def spread_text(values: Floats) -> str:
    """Mean and standard deviation over runs as `91.09±0.37`."""
    return f"{np.mean(values):.2f}±{np.std(values):.2f}"


def percent(share: float) -> str:
    """A share as `97.3 %`."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def part_name(share: float) -> str:
    """The best share of the architectures as `all` or `best 10 %`."""
    return "all" if share == 1 else f"best {100 * share:.0f} %"


def percent_interval(interval: Interval) -> str:
    """A share with its interval, in percent."""
    if math.isnan(interval.low):
        return percent(interval.value)
    return f"{percent(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def hundredths(interval: Interval) -> str:
    """A figure in percent or in points with its interval, to two decimals."""
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def points(interval: Interval) -> str:
    """A difference in percentage points with its interval, signed."""
    if math.isnan(interval.low):
        return f"{interval.value:+.2f}"
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def named_values(values: Mapping[str, object]) -> str:
    """`epochs 4, batch_size 32`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def verdict(interval: Interval, threshold: float = 0.0) -> str:
    """What an interval says about a claim that its figure lies above the threshold."""
    if math.isnan(interval.low):
        return "cannot be judged here"
    if interval.low > threshold:
        return "holds here"
    return "does not hold here" if interval.high < threshold else "is not decided here"


def several(count: int, name: str) -> str:
    """`1 cell`, `1,000 cells`."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def console_table(table: StudyTable) -> Table:
    """The table for a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=table.title, title_justify="left")
    for head in table.heads:
        shown.add_column(head.name, justify="left" if head.is_text else "right", overflow="fold")
    for row in table.rows:
        # Not markup: an interval's brackets would be taken for a style.
        shown.add_row(*map(Text, row))
    return shown


def names_of(values: Sequence[object]) -> str:
    """`a, b and c`."""
    texts = list(map(str, values))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
