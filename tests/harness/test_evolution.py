"""Evolution: selection, the controller, what survives a kill, and the trace."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import load_dataset
from harness.progress import NullProgress
from harness.search.base import SearchJob, load_method
from harness.search.evaluations import Individual, IndividualTable
from harness.search.fitness import parse_fitness
from harness.search.selection import SELECTIONS, Selection, replay
from harness.search.table import SearchTable
from harness.store import Store
from spaces.errors import InputError, Stopped
from spaces.nasbench201 import NASBench201
from spaces.registry import load_space

FAST = {"fitness": "params", "steps": 24, "population": 8}
TRAINED = {"fitness": "accuracy", "steps": 4, "population": 2, "epochs": 1, "train_images": 64, "batch_size": 64}


class Counting(NullProgress):
    """Progress that can be asked how far it is."""

    done = 0
    said = ""

    def advance(self, count: int = 1) -> None:
        self.done += count

    def note(self, text: str) -> None:
        self.said = text


def job(store, space="nasbench201", seed=0):
    dataset = load_dataset("digits", image_size=8)
    loaded = load_space(space)
    config = loaded.configure(
        input_channels=dataset.channels, image_size=8, classes=len(dataset.classes), channels=2, cells=1
    )
    return SearchJob(loaded, config, dataset, seed, "cpu", store, Path(store.path.parent))


def search(path, method="evolution", space="nasbench201", seed=0, progress=None, **settings):
    with Store(path) as store:
        return load_method(method, {**FAST, **settings}).run(job(store, space, seed), progress or NullProgress())


def individuals(path, context=1):
    with Store(path) as store:
        return IndividualTable(store, context).read()


def without_time(rows):
    return [replace(row, seconds=None, evaluation_seconds=None) for row in rows]


# -- selection


SPACE = load_space("nasbench201")


def population(*fitness):
    rng = np.random.default_rng(1)
    return [
        Individual(step, str(SPACE.sample(rng)), "", None, 0, fitness=value) for step, value in enumerate(fitness)
    ]


def parents(selection, fit, steps=range(100, 200)):
    return [selection.propose(SPACE, 0, step, fit)[1] for step in steps]


def test_the_fittest_of_a_tournament_over_everyone_is_the_parent():
    selection = Selection(population=4, tournament=1.0)
    assert set(parents(selection, population(1.0, 3.0, 2.0, 0.0))) == {1}


def test_of_equals_the_first_wins():
    assert set(parents(Selection(4, 1.0), population(1.0, 3.0, 3.0, 0.0))) == {1}


def test_a_tournament_of_one_is_a_random_choice():
    chosen = Counter(parents(Selection(4, 0.05), population(1.0, 3.0, 2.0, 0.0), range(100, 500)))
    assert set(chosen) == {0, 1, 2, 3}
    assert min(chosen.values()) > 60


def test_tournaments_take_five_in_a_hundred():
    chosen = parents(SELECTIONS["evolution"], population(*map(float, range(100))), range(1000, 1400))
    # The best of 5 out of 100 is on average the one at 5/6 of the way.
    assert 79 < np.mean(chosen) < 88
    assert min(chosen) >= 4


def test_only_regularised_evolution_removes_the_oldest():
    fit = population(9.0, 8.0, 1.0, 2.0, 3.0)
    assert set(parents(Selection(3, 1.0, ages=True), fit)) == {4}
    assert set(parents(Selection(3, 1.0), fit)) == {0}


def test_a_child_is_a_neighbour_of_its_parent():
    fit = population(1.0, 2.0)
    child, parent = Selection(2, 1.0).propose(SPACE, 0, 7, fit)
    assert child in set(SPACE.neighbours(SPACE.parse(fit[parent].architecture)))


def test_random_search_is_the_initial_population_alone():
    fit = population(1.0, 2.0)
    assert set(parents(SELECTIONS["random"], fit)) == {None}
    first = [SELECTIONS[name].propose(SPACE, 3, 5, []) for name in SELECTIONS]
    assert len(set(first)) == 1


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("evolution", {"population": 0}, "--population must be at least 1, not 0"),
        ("evolution", {"steps": 0}, "--steps must be at least 1, not 0"),
        ("evolution", {"workers": 0}, "--workers must be at least 1, not 0"),
        ("evolution", {"engine": "cloud"}, "unknown engine 'cloud'; allowed: local, ray"),
        ("evolution", {"address": "auto"}, "--address is for --engine ray"),
        ("evolution", {"gpus": -1.0}, "CPUs and GPUs of a worker must be at least 0"),
        ("evolution", {"order": 2}, "method evolution has no setting order"),
        ("evolution", {"fitness": "beauty"}, "unknown scorer 'beauty'"),
        ("evolution", {"fitness": "naswot+beauty"}, "must be accuracy, a scorer, or SCORER.accuracy"),
        ("evolution", {"fitness": "naswot+"}, "must be accuracy, a scorer, or SCORER.accuracy"),
        ("evolution", {"recipe": "none"}, "unknown recipe 'none'"),
        ("random", {"population": 5}, "method random has no population"),
    ],
)
def test_bad_settings_are_named(method, settings, message):
    with pytest.raises(InputError, match=message):
        load_method(method, settings)


# -- the search


@pytest.mark.parametrize(
    ("method", "space"), [("evolution", "hierarchical"), ("regularised", "flat"), ("regularised", "nasbench201")]
)
def test_evolution_climbs(tmp_path, method, space):
    found = search(tmp_path / "store", method, space, steps=40, population=10, tournament=0.5)
    rows = individuals(tmp_path / "store")
    assert [row.step for row in rows] == list(range(40))
    assert np.mean([row.fitness for row in rows[-10:]]) > np.mean([row.fitness for row in rows[:10]])
    assert found.fitness == max(row.fitness for row in rows)
    assert found.architecture == rows[found.epoch].architecture
    assert all((row.parent is None) == (row.step < 10) for row in rows)


def test_one_worker_and_a_seed_decide_everything(tmp_path):
    for name, seed in [("one", 0), ("two", 0), ("three", 1)]:
        search(tmp_path / name, seed=seed)
    one, two, three = (without_time(individuals(tmp_path / name)) for name in ("one", "two", "three"))
    assert one == two != three


def test_nothing_equal_is_evaluated_twice(tmp_path):
    found = search(tmp_path / "store", steps=120, population=20)
    rows = individuals(tmp_path / "store")
    first = {row.canonical: row for row in reversed(rows)}
    assert found.evaluated == len(first) < 120
    assert all(row.fitness == first[row.canonical].fitness for row in rows)
    assert all((row.evaluation_seconds > 0) == (row is first[row.canonical]) for row in rows)


def test_more_steps_extend_the_same_search_and_fewer_find_it_done(tmp_path):
    search(tmp_path / "short", steps=12)
    progress = Counting()
    found = search(tmp_path / "short", progress=progress)
    search(tmp_path / "long")
    assert without_time(individuals(tmp_path / "short")) == without_time(individuals(tmp_path / "long"))
    assert (found.resumed, progress.done) == (12, 24)
    assert progress.said == f"best {found.fitness:.6g} at step {found.epoch}, 0 in the queue, 1 worker"
    again = search(tmp_path / "short", steps=12)
    assert (again.resumed, again.evaluated) == (24, 0)
    assert again.epoch < 12


def test_a_search_that_was_cut_off_anywhere_ends_as_one_that_was_not(tmp_path):
    search(tmp_path / "whole")
    whole = without_time(individuals(tmp_path / "whole"))
    for cut in (1, 9, 16):
        path = tmp_path / f"cut{cut}"
        with pytest.raises(KeyboardInterrupt):
            search(path, progress=Interrupting(cut))
        assert len([row for row in individuals(path) if row.finished is not None]) >= cut - 1
        search(path)
        assert without_time(individuals(path)) == whole


class Interrupting(NullProgress):
    """Ctrl-C after so many units."""

    def __init__(self, left: int) -> None:
        self.left = left

    def advance(self, count: int = 1) -> None:
        self.left -= count
        if self.left <= 0:
            raise KeyboardInterrupt


def test_what_was_found_is_in_the_store(tmp_path):
    found = search(tmp_path / "store")
    with Store(tmp_path / "store") as store:
        table = SearchTable(store)
        (context,) = table.contexts().values()
        kept = table.result(1)
    assert (context.method, context.space, context.seed) == ("evolution", "nasbench201", 0)
    assert (kept.architecture, kept.epoch, kept.reason) == (found.architecture, found.epoch, found.reason)
    assert "params" in kept.reason


# -- fitness


def test_fitness_is_validation_accuracy_and_shares_trainings_with_train(tmp_path):
    found = search(tmp_path / "store", **TRAINED)
    with Store(tmp_path / "store") as store:
        trainings = store.trainings(1)
    rows = individuals(tmp_path / "store")
    assert {row.canonical: row.fitness for row in rows} == {
        text: training.validation_accuracy for text, training in trainings.items()
    }
    with Store(tmp_path / "store") as store:
        store.insert("DELETE FROM individuals", [()])
    again = search(tmp_path / "store", **TRAINED)
    assert (again.evaluated, again.architecture) == (0, found.architecture)


def test_a_score_of_which_less_is_better_is_turned(tmp_path):
    search(tmp_path / "store", fitness="ntk", steps=2, population=2)
    with Store(tmp_path / "store") as store:
        scores = store.scores(1)
    for row in individuals(tmp_path / "store"):
        value = scores[row.canonical].value
        assert row.fitness == (None if value is None else -value)


def test_a_score_decides_who_is_trained(tmp_path):
    search(tmp_path / "store", **{**TRAINED, "fitness": "params+accuracy", "steps": 16, "population": 12})
    rows = individuals(tmp_path / "store")
    assert all(row.least_score is None for row in rows if row.known < 10)
    gated = [row for row in rows if row.least_score is not None]
    refused = [row for row in gated if row.score < row.least_score]
    assert refused
    assert all(row.fitness is None and "the median of those before" in row.reason for row in refused)
    with Store(tmp_path / "store") as store:
        trained = set(store.trainings(1))
    assert trained == {row.canonical for row in rows if row.fitness is not None}


def test_kinds_of_fitness():
    assert parse_fitness("accuracy") == (None, True)
    assert parse_fitness("naswot") == ("naswot", False)
    assert parse_fitness("naswot+accuracy").gated


# -- several workers


def test_several_workers_leave_a_trace_that_can_be_replayed(tmp_path):
    found = search(tmp_path / "store", "regularised", "hierarchical", workers=2, steps=30)
    rows = individuals(tmp_path / "store")
    assert sorted(row.finished for row in rows) == list(range(30))
    assert found.evaluated + sum(row.evaluation_seconds == 0 for row in rows) == 30
    selection = replace(SELECTIONS["regularised"], population=8)
    assert replay(load_space("hierarchical"), selection, 0, rows) == [row.architecture for row in rows]
    swapped = [replace(row, finished=29 - row.finished) for row in rows]
    assert replay(load_space("hierarchical"), selection, 0, swapped) != [row.architecture for row in rows]


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_evolution import search, TRAINED
if __name__ == "__main__":
    search(Path({path!r}), workers=2, **{{**TRAINED, "steps": {steps}, "train_images": 256}})
"""


def start(path, steps):
    script = SCRIPT.format(tests=str(Path(__file__).parent), path=str(path), steps=steps)
    file = path.with_suffix(".py")
    file.write_text(script)
    return subprocess.Popen([sys.executable, str(file)])


def children(pid):
    command = ["ps", "-ww", "--ppid", str(pid), "-o", "pid=,args="]  # -ww: COLUMNS must not cut what is looked for
    found = subprocess.run(command, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "spawn_main" in line]


def wait_for(condition, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(path):
    if not path.exists():
        return 0
    try:
        return sum(row.finished is not None for row in individuals(path))
    except InputError:
        return 0


def test_a_killed_worker_and_a_killed_controller_lose_nothing(tmp_path):
    path = tmp_path / "store"
    controller = start(path, steps=100_000)
    try:
        wait_for(lambda: finished(path) >= 2)
        os.kill(children(controller.pid)[0], signal.SIGKILL)
        before = finished(path)
        wait_for(lambda: finished(path) >= before + 1)
    finally:
        controller.kill()
        controller.wait()
    proposed = individuals(path)
    kept = {row.step: row for row in proposed if row.finished is not None}
    steps = len(proposed) + 2
    assert start(path, steps).wait() == 0
    rows = individuals(path)
    assert [row.step for row in rows] == list(range(steps))
    assert all(row.fitness is not None for row in rows)
    assert {step: rows[step] for step in kept} == kept


def test_a_search_in_which_nothing_has_a_fitness_says_why(tmp_path):
    with Store(tmp_path / "store") as store:
        where = job(store)
        cells = [cell for cell in where.space if str(cell).count("none") == 6]
        with pytest.raises(Stopped, match="none of 2 individuals got a fitness: no counted ReLU"):
            load_method("random", {"fitness": "naswot", "steps": 2}).run(
                replace(where, space=OnlyCell(cells[0])), NullProgress()
            )


class OnlyCell(NASBench201):
    """The space, sampled where there is one cell."""

    def __init__(self, cell):
        self._cell = cell

    def sample(self, rng):
        return self._cell
