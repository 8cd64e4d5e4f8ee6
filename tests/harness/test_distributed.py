"""Tasks on a real Ray cluster of two nodes on this machine, and what goes wrong there."""

import json
import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evolution import job

from harness.datasets import draw_batch
from harness.distributed import LocalEngine, RayEngine, _room, load_engine
from harness.engine import ScoringJob, score_architectures
from harness.progress import NullProgress
from harness.search.base import load_method
from harness.search.evaluations import IndividualTable
from harness.store import Store
from harness.task_queue import TaskQueue
from harness.training.recipes import load_recipe
from harness.training.run import TrainingJob, train_architectures
from spaces.errors import InputError

pytest.importorskip("ray", reason="Ray is not installed: the extra ray")


class Slow:
    """Doubles a number in a third of a second and says where; refuses -13, and dies at -14 each time."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds

    def __call__(self, number: int) -> tuple[int, int, int]:
        if number == -13:
            raise InputError("-13 is not allowed")
        if number == -14:
            os._exit(9)
        time.sleep(self.seconds)
        return 2 * number, os.getpid(), torch.get_num_threads()


class Unmade:
    def __init__(self) -> None:
        raise InputError("this cannot be made")


# Before this process has a cluster.
def test_no_cluster_here_is_named(monkeypatch):
    from ray._private.services import find_gcs_addresses

    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        try:
            with pytest.raises(InputError, match="--address auto: Could not find any running Ray instance"):
                list(load_engine("ray", 1, "auto").run([1], Slow))
        except BaseException:
            if find_gcs_addresses():
                pytest.skip("another cluster runs on this machine, and auto finds it")
            raise


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with ports that the system chose, so that several test processes have one each."""
    from ray.cluster_utils import Cluster

    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    # Short: paths of sockets are in it.
    folder = tempfile.mkdtemp(prefix="ray")
    environment.setenv("RAY_TMPDIR", folder)
    quick = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 3,
    }
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    )
    started.add_node(num_cpus=1)
    yield started
    started.shutdown()
    environment.undo()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def engine(cluster):
    return RayEngine(2, cluster.address)


def test_every_task_gets_its_result_from_one_thread(engine):
    results = dict(engine.run(iter(range(6)), partial(Slow, 0.1)))
    assert {number: (double, threads) for number, (double, _, threads) in results.items()} == {
        number: (2 * number, 1) for number in range(6)
    }
    assert os.getpid() not in {pid for _, pid, _ in results.values()}


def test_tasks_are_taken_only_when_a_worker_is_idle_and_after_its_result(engine):
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    results = engine.run(tasks(), partial(Slow, 0.1))
    next(results)
    assert len(taken) <= 2
    results.close()


def test_errors_come_out_as_themselves(engine):
    with pytest.raises(InputError, match=r"^-13 is not allowed"):
        list(engine.run([-13], Slow))
    with pytest.raises(InputError, match=r"^this cannot be made"):
        list(engine.run([1], Unmade))


def test_a_task_that_kills_its_workers_ends_the_run(engine):
    with pytest.raises(InputError, match="a worker process died, and so did 2 others at the same task"):
        list(engine.run([-14], Slow))


def test_a_killed_worker_loses_nothing(engine):
    results = {}
    for number, (double, pid, _) in engine.run(iter(range(10)), Slow):
        if number == 2:
            os.kill(pid, signal.SIGKILL)
        assert number not in results
        results[number] = double
    assert results == {number: 2 * number for number in range(10)}


def scores(folder, engine, address=None):
    """Every individual of a search by NASWOT, and the scores that it left in the store."""
    settings = {"fitness": "naswot", "steps": 12, "workers": 2, "engine": engine, "address": address}
    given = {name: value for name, value in settings.items() if value is not None}
    with Store(folder / f"{engine}.sqlite") as store:
        load_method("random", given).run(job(store, "hierarchical"), NullProgress())
        rows = IndividualTable(store, 1).read()
        return [(row.step, row.architecture, row.fitness) for row in rows], {
            text: record.value for text, record in store.scores(1).items()
        }


def test_scores_from_ray_are_local_ones_to_the_bit(cluster, tmp_path):
    assert scores(tmp_path, "ray", cluster.address) == scores(tmp_path, "local")


def results_of_commands(folder, engine):
    """What `tfnas score` and `tfnas train` leave in the store of the same three cells, without the seconds."""
    with Store(folder / f"{type(engine).__name__}.sqlite") as store:
        where = job(store)
        cells = [where.space.sample(np.random.default_rng(seed)) for seed in range(3)]
        scoring = ScoringJob("nasbench201", where.config, "naswot", 0, draw_batch(where.dataset, 16, 0), "cpu")
        score_architectures(scoring, cells, store, NullProgress(), chunk=1, engine=engine)
        recipe = load_recipe("tiny", train_images=32, batch_size=16)
        training = TrainingJob("nasbench201", where.config, recipe, 0, "digits", folder, 8, "cpu")
        train_architectures(
            training, cells, store, checkpoints=folder / "c", processes=1, progress=NullProgress(), engine=engine
        )
        scored, trained = store.scores(1).values(), store.trainings(1).values()
        return {(record.canonical, record.value) for record in scored}, {
            (record.canonical, record.validation_accuracy, record.test_accuracy) for record in trained
        }


def test_scoring_and_training_on_ray_give_local_results_to_the_bit(engine, tmp_path):
    assert results_of_commands(tmp_path, engine) == results_of_commands(tmp_path, LocalEngine(1))


def test_a_cluster_says_how_many_workers_it_has_room_for():
    nodes = {"CPU": 8.0, "GPU": 2.0}
    assert _room(nodes, RayEngine(cpus=1.5)) == 5
    assert _room(nodes, RayEngine(cpus=1.0, gpus=0.5)) == 4
    assert _room(nodes, RayEngine(cpus=16.0)) == 1


def test_a_killed_node_loses_nothing(cluster, engine):
    doomed = cluster.add_node(num_cpus=1)
    results = {}
    for number, (double, _, _) in RayEngine(3, cluster.address).run(iter(range(24)), Slow):
        if number == 5:
            cluster.remove_node(doomed, allow_graceful=False)
        assert number not in results
        results[number] = double
    assert results == {number: 2 * number for number in range(24)}


def test_another_version_on_the_cluster_is_named(cluster, engine):
    import ray
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER

    kept = cluster.head_node.get_gcs_client()
    true = kept.internal_kv_get(CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER)
    told = json.dumps({**json.loads(true), "ray_version": "1.0.0"}).encode()
    kept.internal_kv_put(CLUSTER_METADATA_KEY, told, True, KV_NAMESPACE_CLUSTER)
    try:
        with pytest.raises(InputError, match=f"Version mismatch.* Ray: 1.0.0 .* Ray: {ray.__version__}"):
            list(engine.run([1], Slow))
    finally:
        kept.internal_kv_put(CLUSTER_METADATA_KEY, true, True, KV_NAMESPACE_CLUSTER)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_a_cluster_that_cannot_be_reached_is_named(address):
    with pytest.raises(InputError, match=f"--address {address} cannot be reached"):
        list(RayEngine(1, address).run([1], Slow))


def test_a_lost_task_comes_before_the_others():
    queue = TaskQueue(iter("abc"))
    assert list(queue.take()) == [("a", 0)]
    queue.lose("a", 0)
    assert [next(queue.take()) for _ in range(3)] == [("a", 1), ("b", 0), ("c", 0)]
    assert list(queue.take()) == []
    queue.lose("a", 1)
    assert list(queue.take()) == [("a", 2)]
