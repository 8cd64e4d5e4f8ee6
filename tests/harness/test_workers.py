import multiprocessing
import os
import signal
import time
from functools import partial

import pytest
import torch

from harness.workers import one_thread, run_tasks
from spaces.errors import InputError


class Multiplier:
    """Multiplies, but refuses 13, fails at 14 and dies at 15; says how many threads torch may use."""

    def __init__(self, factor: int) -> None:
        if factor < 0:
            raise InputError("factor must not be negative")
        self.factor = factor

    def __call__(self, number: int) -> tuple[int, int]:
        if number == 13:
            raise InputError("13 is not allowed")
        if number == 14:
            raise UnpicklableError("left", "right")
        if number == 15:
            os._exit(9)
        return number * self.factor, torch.get_num_threads()


class UnpicklableError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize("processes", [1, 2])
def test_every_task_gets_its_result_from_one_thread(processes: int) -> None:
    results = dict(run_tasks(iter(range(7)), partial(Multiplier, 3), processes=processes))
    assert results == {number: (3 * number, 1) for number in range(7)}
    assert multiprocessing.active_children() == []


def test_threads_are_restored_between_results_and_after() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in run_tasks(range(2), partial(Multiplier, 3), processes=1):
            assert torch.get_num_threads() == 2
        with pytest.raises(InputError, match="13"), one_thread():
            Multiplier(1)(13)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_comes_out_as_itself(processes: int) -> None:
    with pytest.raises(InputError, match=r"^13 is not allowed"):
        list(run_tasks([13], partial(Multiplier, 3), processes=processes))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("task", "factor", "kind", "message"),
    [
        (1, -1, InputError, "factor must not be negative"),
        (14, 3, RuntimeError, "UnpicklableError: left and right"),
        (15, 3, InputError, "a worker process died, and so did 2 others at the same task"),
    ],
)
def test_a_worker_that_fails_says_why(task: int, factor: int, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        list(run_tasks([task], partial(Multiplier, factor), processes=2))
    assert multiprocessing.active_children() == []


def test_tasks_are_taken_only_when_a_process_is_free_and_closing_ends_the_workers() -> None:
    taken: list[int] = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    results = run_tasks(tasks(), partial(Multiplier, 1), processes=2)
    next(results)
    assert len(taken) == 3
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []


class SlowlyNamed:
    """The number and who had it, after a tenth of a second."""

    def __call__(self, number: int) -> tuple[int, int]:
        time.sleep(0.1)
        return number, os.getpid()


def test_a_killed_worker_is_replaced_and_its_task_done_again() -> None:
    found = []
    workers = set()
    for task, (number, worker) in run_tasks(range(8), SlowlyNamed, processes=2):
        assert task == number
        found.append(number)
        workers.add(worker)
        if number == 2:
            # It has its next task by now.
            os.kill(worker, signal.SIGKILL)
    assert sorted(found) == list(range(8))
    assert len(workers) == 3


def test_no_task_starts_no_process() -> None:
    assert list(run_tasks([], partial(Multiplier, 1), processes=4)) == []


def test_processes_below_1_are_refused() -> None:
    with pytest.raises(InputError, match="--processes must be at least 1, not 0"):
        run_tasks([1], partial(Multiplier, 1), processes=0)
