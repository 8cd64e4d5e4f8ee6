"""Tasks in this process or in several: results as they come, errors as themselves, no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from spaces.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]], *, processes: int
) -> Generator[tuple[Task, Result], None, None]:
    """Yield (task, result) as each task is done, in any order.

    Every process calls `make_function` once, so that what it makes can keep data, and runs torch with one
    thread on CPU: results have the same bits for any number of processes. With one process that is this one.
    Tasks are taken from the iterable only when a process is free. However the generator ends, also by Ctrl-C
    or `close`, its workers are killed; and should this process be killed, they end themselves.

    Raises:
        InputError: `processes` below 1, or a worker process died.
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
    recipe = pickle.dumps(make_function)
    context = multiprocessing.get_context("spawn")
    waiting = iter(tasks)
    workers: list[SpawnProcess] = []
    running: dict[Connection, Task] = {}
    try:
        for task in islice(waiting, processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
            worker.start()
            workers.append(worker)
            theirs.close()
            _send(ours, task)
            running[ours] = task
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                result = _receive(connection)
                done = running.pop(connection)
                for task in islice(waiting, 1):
                    _send(connection, task)
                    running[connection] = task
                yield done, result
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from a worker."""

    error: Exception


def _send(connection: Connection, task: object) -> None:
    try:
        connection.send_bytes(pickle.dumps(task))
    except ConnectionError as error:
        raise _worker_died() from error


def _receive(connection: Connection) -> Any:
    try:
        outcome = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError) as error:
        raise _worker_died() from error
    if isinstance(outcome, _Failure):
        raise outcome.error
    return outcome


def _worker_died() -> InputError:
    return InputError(
        "a worker process died, perhaps for lack of memory: give fewer --processes; what is done is kept"
    )


def _serve(connection: Connection, recipe: bytes) -> None:
    """Life of a worker: one result per task, until there is no more, an error, or no parent."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with one_thread():
            function = pickle.loads(recipe)()
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
