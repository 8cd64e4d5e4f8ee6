"""Where tasks run: in processes of this machine, or on a Ray cluster with the same results to the bit.

Both take a task from the iterable only when a worker is idle, give it to another worker if its own dies, and leave
the store to the process that asked.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from harness.task_queue import TaskQueue
from harness.workers import one_thread, run_tasks
from spaces.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

ENGINES = ("local", "ray")

CONNECT_SECONDS = 10.0

MOST_FAILED_STARTS = 20


class Engine(Protocol):
    """Runs tasks in any order; see `harness.workers.run_tasks` for the contract."""

    @property
    def workers(self) -> int | None:
        """How many tasks run at a time, None where the cluster decides."""

    def run(
        self, tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Yield (task, result) as each task is done, each worker's function made by `make_function`."""


def load_engine(
    name: str, workers: int | None, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0
) -> Engine:
    """Engine of this name with so many workers, None: one here, and as many as Ray's cluster has room for.

    `cpus` and `gpus` are what a worker on Ray takes of its node.

    Raises:
        InputError: an unknown name, a value out of its range, or an address without Ray.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, not {workers}")
    if cpus < 0 or gpus < 0:
        raise InputError(f"the CPUs and GPUs of a worker must be at least 0, not {min(cpus, gpus)}")
    if name == "ray":
        return RayEngine(workers, address, cpus, gpus)
    if name != "local":
        raise InputError(f"unknown engine {name!r}; allowed: {', '.join(ENGINES)}")
    if address is not None:
        raise InputError("--address is for --engine ray")
    return LocalEngine(workers or 1)


def cluster_engine(name: str, workers: int | None, address: str | None, cpus: float, gpus: float) -> Engine | None:
    """As `load_engine`, but None for this machine, where a command knows better how many processes it takes."""
    engine = load_engine(name, workers, address, cpus, gpus)
    return None if isinstance(engine, LocalEngine) else engine


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this machine; with one worker that is this process."""

    workers: int

    def run(
        self, tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """As `run_tasks`."""
        return run_tasks(tasks, make_function, processes=self.workers)


@dataclass(frozen=True)
class RayEngine:
    """Ray actors, each with its share of CPUs and GPUs; the cluster of `address`, or one started here (None).

    There are `workers` of them, or as many as the nodes have room for now (None). An actor that dies, alone or
    with its node, is started again where there is room, and its task goes to the next that is idle.
    """

    workers: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def run(
        self, tasks: Iterable[Task], make_function: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """As `run_tasks`.

        Raises:
            InputError: Ray is not installed, the cluster cannot be reached or has another version of Ray or
                Python, or a task was lost with its worker again and again.
        """
        with _connected(self.address) as ray:
            yield from _ActorPool(ray, self, make_function).run(tasks)


class _Worker:
    """Life of an actor: make the function, then one result per task, torch with one thread as in local workers."""

    def __init__(self, recipe: bytes) -> None:
        self._recipe = recipe

    def start(self) -> None:
        """Make the function; what that raises comes out of this call."""
        with one_thread():
            self._function = pickle.loads(self._recipe)()

    def run(self, task: bytes) -> Any:
        """Result of a task."""
        with one_thread():
            return self._function(pickle.loads(task))


@dataclass(frozen=True)
class _Attempt(Generic[Task]):
    """An actor at work, on a task that was lost so many times before."""

    actor: Any
    task: Task
    losses: int


class _ActorPool(Generic[Task, Result]):
    """The actors of one run, and what each of them is doing."""

    def __init__(self, ray: Any, engine: RayEngine, make_function: Callable[[], Callable[[Task], Result]]) -> None:
        self._ray = ray
        # Plain pickle as for local workers: Ray's own would hand out arrays that cannot be written to.
        self._recipe = ray.put(pickle.dumps(make_function))
        # Ray could restart an actor by itself, but the task that it had would be lost all the same.
        self._actor_type = ray.remote(num_cpus=engine.cpus, num_gpus=engine.gpus, max_restarts=0)(_Worker)
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, _Attempt[Task]] = {}
        self._idle: list[Any] = []
        self._failed_starts = 0
        for _ in range(engine.workers or _room(ray.cluster_resources(), engine)):
            self._start()

    def run(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Result], None, None]:
        """See `RayEngine.run`. An actor gets a task when it is up: no task waits for room in the cluster."""
        queue = TaskQueue(tasks)
        try:
            while self._running or not self._idle:
                for future in self._done():
                    attempt = self._running.pop(future, None)
                    actor = attempt.actor if attempt else self._starting.pop(future)
                    try:
                        result = self._result(future)
                    except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
                        self._end(actor)
                        if attempt:
                            queue.lose(attempt.task, attempt.losses)
                        else:
                            self._failed_starts += 1
                        self._start()
                        continue
                    self._failed_starts = 0
                    self._idle.append(actor)
                    if attempt:
                        yield attempt.task, result
                while self._idle and (taken := next(queue.take(), None)):
                    actor = self._idle.pop()
                    self._running[actor.run.remote(pickle.dumps(taken[0]))] = _Attempt(actor, *taken)
        finally:
            actors = [
                *self._starting.values(),
                *(attempt.actor for attempt in self._running.values()),
                *self._idle,
            ]
            for actor in actors:
                self._end(actor)

    def _start(self) -> None:
        """Start an actor. Raises `InputError` where none came up in many attempts."""
        if self._failed_starts == MOST_FAILED_STARTS:
            raise InputError(
                f"{MOST_FAILED_STARTS} workers on Ray died one after the other before they had a task"
            )
        actor = self._actor_type.remote(self._recipe)
        self._starting[actor.start.remote()] = actor

    def _end(self, actor: Any) -> None:
        # One that never came up, or whose node is gone, cannot be killed.
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)

    def _done(self) -> list[Any]:
        """All that has ended by now, or else the first to end."""
        futures = [*self._starting, *self._running]
        done: list[Any] = self._ray.wait(futures, num_returns=len(futures), timeout=0)[0]
        return done or list(self._ray.wait(futures)[0])

    def _result(self, future: Any) -> Any:
        try:
            return self._ray.get(future)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None


def _room(resources: dict[str, float], engine: RayEngine) -> int:
    """How many workers the nodes of a cluster have room for, at least one, which may come with a later node."""
    shares = {"CPU": engine.cpus, "GPU": engine.gpus}
    places = [resources.get(name, 0.0) / share for name, share in shares.items() if share]
    return max(1, int(min(places, default=1.0)))


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The ray module, connected inside the block; a connection that was there before stays."""
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray needs Ray: install tfnas with the extra ray") from error
    if ray.is_initialized():
        yield ray
        return
    _check_reachable(address)
    # A cluster that we start reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False)
    # Ray says with any of these that there is no cluster, or that its versions of Ray or Python are others.
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise InputError(f"--address {address}: {' '.join(str(error).split())}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Ask for a connection where the address names a host and a port: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(f"--address {address} cannot be reached: {error}") from error
