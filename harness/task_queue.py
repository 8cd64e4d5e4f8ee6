"""Tasks for workers that may die."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from spaces.errors import InputError

Task = TypeVar("Task")

MOST_LOSSES = 3
"""A task at which so many workers died is itself the likely cause."""


class TaskQueue(Generic[Task]):
    """Tasks that came back, then those of the iterable, which is asked only when a worker is idle."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._waiting = iter(tasks)
        self._lost: list[tuple[Task, int]] = []

    def take(self) -> Iterator[tuple[Task, int]]:
        """The next task and how often it was lost; nothing where there is none now."""
        if self._lost:
            yield self._lost.pop()
            return
        for task in islice(self._waiting, 1):
            yield task, 0

    def lose(self, task: Task, losses: int) -> None:
        """Put back a task whose worker died. Raises `InputError` where that happened `MOST_LOSSES` times."""
        if losses + 1 == MOST_LOSSES:
            raise InputError(
                f"a worker process died, and so did {losses} others at the same task, perhaps for lack of memory: "
                "give fewer --processes or --workers; what is done is kept"
            )
        self._lost.append((task, losses + 1))
