"""The page that a differentiable search leaves in its folder, with derived networks trained for it if asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import command_line

if TYPE_CHECKING:
    from harness.search.base import SearchJob
    from harness.search.epochs import EpochSearch
    from harness.search.records import SearchEpoch, SearchRecord


@dataclass(frozen=True)
class Trainings:
    """Which derived networks to train: those of `count` epochs, on the data set as the options name it.

    `workers` trainings run at a time; None for as many as there are cores.
    """

    count: int
    recipe: str
    dataset: str
    data_dir: Path
    image_size: int | None
    workers: int | None


def make_search_page(
    search: EpochSearch, job: SearchJob, found: SearchRecord, next_command: str, trainings: Trainings | None
) -> Path:
    """Write the page of a finished search into its folder; returns its path."""
    from harness.search.table import SearchTable
    from reports.search_page import SearchReport, write_search_page

    table = SearchTable(job.store)
    context = search.context(job)
    epochs = table.epochs(table.context(context))
    report = SearchReport(
        context=context,
        epochs=epochs,
        record=found,
        architecture=job.space.parse(found.architecture),
        accuracies=_accuracies(trainings, job, epochs, found.epoch) if trainings else {},
        trained=f"trained by the recipe {trainings.recipe} at the size of the search" if trainings else "",
        command=command_line(),
        next_command=next_command,
    )
    return write_search_page(report, job.folder)


def _accuracies(trainings: Trainings, job: SearchJob, epochs: list[SearchEpoch], answer: int) -> dict[int, float]:
    """Test accuracy by epoch of what some epochs derived: evenly spaced ones, and the one that is the answer.

    Raises:
        InputError: the space does not read images.
    """
    import numpy as np

    from harness.cli.training import run_training, training_config
    from harness.training.recipes import load_recipe
    from harness.training.run import TrainingJob
    from spaces.errors import InputError

    if job.space.reads != "images":
        raise InputError(
            f"--evaluate trains networks on images, and space {job.space.name} reads {job.space.reads}"
        )
    recipe = load_recipe(trainings.recipe)
    training = TrainingJob(
        job.space.name,
        training_config(job.config, recipe),
        recipe,
        job.seed,
        trainings.dataset,
        trainings.data_dir,
        trainings.image_size,
        job.device,
    )
    spaced = np.linspace(1, len(epochs), min(trainings.count, len(epochs))).round().astype(int).tolist()
    chosen = {number: job.space.parse(epochs[number - 1].architecture) for number in sorted({*spaced, answer})}
    summary = run_training(training, list(dict.fromkeys(chosen.values())), job.store, processes=trainings.workers)
    if summary.interrupted:
        raise KeyboardInterrupt
    known = job.store.trainings(job.store.training_context(training.context()))
    return {
        number: known[str(job.space.canonical(architecture, "live"))].test_accuracy
        for number, architecture in chosen.items()
    }
