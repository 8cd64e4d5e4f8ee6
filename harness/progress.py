"""How far a long command is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import Task, TaskID

LINE_INTERVAL_SECONDS = 30.0
"""A log gets a line at most this often."""

SPEED_PERIOD_SECONDS = 600.0
"""The rate on the bar is that of the last so many seconds."""


class Progress(Protocol):
    """What a long computation tells about how far it is."""

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""

    def note(self, text: str) -> None:
        """How things stand, in a few words that take the place of those before."""


class NullProgress:
    """Says nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class ProgressLines:
    """A line to stderr at most every `LINE_INTERVAL_SECONDS`; `clock` gives seconds.

    Units of the first `advance` count as done but not in the rate: they are what was found in the store.
    """

    def __init__(self, title: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._total = total
        self._clock = clock
        self._started = self._last_line = clock()
        self._done = 0
        self._found: int | None = None
        self._note = ""

    def note(self, text: str) -> None:
        """What the next line ends with."""
        self._note = text

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""
        self._done += count
        if self._found is None:
            self._found = self._done
        now = self._clock()
        if now - self._last_line >= LINE_INTERVAL_SECONDS:
            self._last_line = now
            print(self._line(now - self._started, self._done - self._found), file=sys.stderr, flush=True)

    def _line(self, elapsed: float, computed: int) -> str:
        parts = [f"{self._title}: {self._done}/{self._total} in {_duration(elapsed)}"]
        if computed:
            left = (self._total - self._done) * elapsed / computed
            parts += [f"{60 * computed / elapsed:.1f} a minute", f"{_duration(left)} left"]
        return ", ".join([*parts, self._note] if self._note else parts)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Progress towards `total` units on stderr: done of total, units a minute, time gone and left."""
    if not sys.stderr.isatty():
        yield ProgressLines(title, total)
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class RateColumn(progress.ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{60 * speed:.1f} a minute" if speed else "")

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        RateColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        speed_estimate_period=SPEED_PERIOD_SECONDS,
    )
    with bar:
        yield _Bar(bar, bar.add_task(title, total=total, note=""))


class _Bar:
    """One task of a rich progress display."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""
        self._bar.advance(self._task, count)

    def note(self, text: str) -> None:
        """Words after the bar."""
        self._bar.update(self._task, note=text)


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
