"""Tasks in this process or in several: results as they come, errors as themselves, no process left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from harness.task_queue import TaskQueue
from spaces.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]], *, processes: int
) -> Generator[tuple[Task, Result], None, None]:
    """Yield (task, result) as each task is done, in any order.

    Every process calls `make_function` once, so that what it makes can keep data, and runs torch with one
    thread on CPU: results have the same bits for any number of processes. With one process that is this one.
    Tasks are taken from the iterable only when a process is free. A worker that dies is replaced, and its task
    done again. However the generator ends, also by Ctrl-C or `close`, its workers are killed; and should this
    process be killed, they end themselves.

    Raises:
        InputError: `processes` below 1, or worker processes died at one task again and again.
        Exception: whatever `make_function` or its function raised, wherever that was.
    """
    if processes < 1:
        raise InputError(f"--processes must be at least 1, not {processes}")
    if processes == 1:
        return _run_here(tasks, make_function)
    return _run_in_workers(tasks, make_function, processes)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one CPU thread inside the block."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run_here(
    tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]]
) -> Generator[tuple[Task, Result], None, None]:
    with one_thread():
        function = make_function()
    for task in tasks:
        with one_thread():
            result = function(task)
        yield task, result


def _run_in_workers(
    tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]], processes: int
) -> Generator[tuple[Task, Result], None, None]:
    # Plain pickle copies tensors; multiprocessing's own would move them into shared memory, which may be small.
    pool = _Pool(pickle.dumps(make_function))
    queue = TaskQueue(tasks)
    running: dict[Connection, tuple[Task, int]] = {}
    try:
        while len(running) < processes and (taken := next(queue.take(), None)):
            running[pool.start(taken[0])] = taken
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                task, losses = running.pop(connection)
                try:
                    result = pool.receive(connection)
                except _WorkerDiedError:
                    queue.lose(task, losses)
                    taken = next(queue.take())
                    running[pool.start(taken[0])] = taken
                    continue
                if taken := next(queue.take(), None):
                    pool.send(connection, taken[0])
                    running[connection] = taken
                yield task, result
    finally:
        pool.end()


class _WorkerDiedError(Exception):
    """A worker ended without a result."""


class _Pool:
    """Worker processes by our end of their pipe; `recipe` is what makes their function, pickled."""

    def __init__(self, recipe: bytes) -> None:
        self._recipe = recipe
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, SpawnProcess] = {}

    def start(self, task: object) -> Connection:
        """A new worker at work on a task."""
        ours, theirs = self._context.Pipe()
        worker = self._context.Process(target=_serve, args=(theirs, self._recipe), daemon=True)
        worker.start()
        theirs.close()
        self._workers[ours] = worker
        self.send(ours, task)
        return ours

    def send(self, connection: Connection, task: object) -> None:
        """Give a worker its next task; should it be dead, that shows when its result is received."""
        with suppress(ConnectionError):
            connection.send_bytes(pickle.dumps(task))

    def receive(self, connection: Connection) -> Any:
        """Result of the task that was sent; raises what the task raised."""
        try:
            outcome = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            self._workers.pop(connection).join()
            raise _WorkerDiedError from error
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def end(self) -> None:
        """Kill every worker."""
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.join()


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from a worker."""

    error: Exception


def _serve(connection: Connection, recipe: bytes) -> None:
    """Life of a worker: one result per task, until there is no more, an error, or no parent."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with one_thread():
            function = pickle.loads(recipe)()
            # Libraries and data stay for the life of the worker: the collector need not look at them again.
            gc.freeze()
            for task in _tasks_from(connection):
                connection.send_bytes(pickle.dumps(function(task)))
    except Exception as error:
        connection.send_bytes(pickle.dumps(_Failure(_portable(error))))


def _tasks_from(connection: Connection) -> Iterator[Any]:
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        yield pickle.loads(message)


def _portable(error: Exception) -> Exception:
    """The exception with the worker's traceback as a note; as a RuntimeError if it does not survive pickling."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception_only(error)))
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
