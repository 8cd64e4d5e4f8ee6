"""Searches and trainings of a study: from the store, and run into it where they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.progress import Progress
from harness.records import TrainingRecord
from harness.search.base import SearchJob
from harness.search.epochs import EpochSearch
from harness.search.records import SearchRecord
from harness.training.recipes import Recipe
from harness.training.run import TrainingJob, train_architectures
from reports.studies.base import Bars, StudySetting
from spaces.base import AnySpace, Architecture, NetworkConfig
from spaces.registry import load_space


def search_job(setting: StudySetting, seed: int, folder: Path, space: AnySpace | None = None) -> SearchJob:
    """The job of a search with the setting's networks that are trained, in its space without more said."""
    return SearchJob(
        space=space or setting.space,
        config=setting.training_config,
        dataset=setting.dataset,
        seed=seed,
        device=setting.device,
        store=setting.store,
        folder=folder,
    )


def run_search(
    setting: StudySetting, search: EpochSearch, name: str, title: str, seed: int, bars: Bars
) -> tuple[SearchJob, SearchRecord]:
    """Run a differentiable search under a bar; checkpoints lie in a folder `name` until it is finished."""
    folder = Path(f"{setting.store.path}.searches") / name
    folder.mkdir(parents=True, exist_ok=True)
    job = search_job(setting, seed, folder)
    with bars(title, search.steps) as bar:
        found = search.run(job, bar)
    for empty in (folder, folder.parent):
        if not any(empty.iterdir()):
            empty.rmdir()
    return job, found


def training_job(
    setting: StudySetting,
    seed: int,
    *,
    space: str | None = None,
    config: NetworkConfig | None = None,
    recipe: Recipe | None = None,
    validation_images: int | None = None,
) -> TrainingJob:
    """The job of trainings: what is not given is the setting's; at most `validation_images` validate."""
    recipe = recipe or setting.recipe
    if validation_images is not None:
        share = validation_images / len(setting.dataset.train)
        recipe = replace(recipe, validation_fraction=min(recipe.validation_fraction, share))
    return TrainingJob(
        space=space or setting.space.name,
        config=config or setting.training_config,
        recipe=recipe,
        seed=seed,
        dataset=setting.dataset_name,
        data_dir=setting.data_dir,
        image_size=setting.image_size,
        device=setting.device,
    )


def trainings(
    setting: StudySetting, job: TrainingJob, architectures: Sequence[Architecture], bar: Progress
) -> list[TrainingRecord]:
    """What the training of each architecture reached. Raises KeyboardInterrupt where it was cut off."""
    summary = train_architectures(
        job,
        architectures,
        setting.store,
        checkpoints=Path(f"{setting.store.path}.checkpoints"),
        processes=min(len(architectures), setting.processes or 1),
        progress=bar,
    )
    if summary.interrupted:
        raise KeyboardInterrupt
    space = load_space(job.space)
    known = setting.store.trainings(setting.store.training_context(job.context()))
    return [known[str(space.canonical(each, "live"))] for each in architectures]
