"""How many workers can one controller feed, and what does a second worker bring?

    python benchmarks/scaling.py throughput [--engine local|ray] [--workers 2] [--steps 3000]
    python benchmarks/scaling.py efficiency [--engine local|ray] [--steps 48]

`throughput` evolves hierarchical genotypes with evaluations that do nothing: selection, mutation, canonical form,
store and the way to the workers and back are all that is timed, by the clock and by what the controller's process
takes of a processor: the first is what this machine does with the workers on it too, the second what a controller
with a core to itself can feed. `efficiency` scores real images with NASWOT by one
worker and by two in turn; the seconds that workers take to start are left out of both.
"""

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from harness.datasets import load_dataset
from harness.distributed import load_engine
from harness.records import ScoreRecord
from harness.search.base import SearchJob
from harness.search.controller import Controller
from harness.search.evaluations import IndividualTable, frequent_writes
from harness.search.fitness import Candidate, Fitness, Measured, parse_fitness
from harness.search.selection import SELECTIONS
from harness.store import Store
from harness.training.recipes import load_recipe
from spaces.registry import load_space


class NothingFitness(Fitness):
    """Canonical form and store as for a score; the worker returns the length of the text."""

    def make_worker(self):
        return Nothing


class Nothing:
    def __call__(self, candidate: Candidate) -> Measured:
        score = ScoreRecord(candidate.canonical, float(len(candidate.canonical)), None, 0.0)
        return Measured(candidate.canonical, score, None, None, 0.0)


def search_job(store, space, size, channels):
    dataset = load_dataset("digits", image_size=size)
    loaded = load_space(space)
    config = loaded.configure(
        input_channels=dataset.channels, image_size=size, classes=len(dataset.classes), channels=channels
    )
    return SearchJob(loaded, config, dataset, 0, "cpu", store, store.path.parent)


def timed(engine, steps, fitness_type, size, channels):
    """Seconds from the first result to the last, those of this process's processor, and results in between."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite") as store:
        job = search_job(store, "hierarchical", size, channels)
        fitness = fitness_type(job, parse_fitness("naswot"), load_recipe("small"), 128)
        store.add_tables("CREATE TABLE IF NOT EXISTS search_contexts (id INTEGER PRIMARY KEY)")
        with frequent_writes(store):
            controller = Controller(job, SELECTIONS["evolution"], fitness, IndividualTable(store, 1), gated=False)
            with closing(engine.run(controller.candidates(steps), fitness.make_worker())) as results:
                done = 0
                for _, measured in results:
                    controller.learn(measured)
                    done += 1
                    if done == engine.workers:
                        started, busy = time.perf_counter(), time.process_time()
            return time.perf_counter() - started, time.process_time() - busy, done - engine.workers


def throughput(arguments):
    engine = load_engine(arguments.engine, arguments.workers, arguments.address)
    seconds, busy, done = timed(engine, arguments.steps, NothingFitness, 8, 2)
    print(
        f"{arguments.engine}, {arguments.workers} workers: {done / seconds:.0f} evaluations a second, "
        f"{done / busy:.0f} a second of the controller's processor"
    )


def efficiency(arguments):
    rates = {}
    for workers in (1, 2, 1, 2):
        engine = load_engine(arguments.engine, workers, arguments.address)
        seconds, _, done = timed(engine, arguments.steps, Fitness, 32, 16)
        rates.setdefault(workers, []).append(done / seconds)
        print(f"{arguments.engine}, {workers} workers: {60 * done / seconds:.1f} a minute", flush=True)
    print(f"two workers are {max(rates[2]) / max(rates[1]):.2f} times as fast as one")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "efficiency"])
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3000)
    given = parser.parse_args()
    {"throughput": throughput, "efficiency": efficiency}[given.what](given)
