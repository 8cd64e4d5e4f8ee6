"""`tfnas train`: make ground truth here."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.options import command_line, print_json
from harness.cli.setting import load_setting

if TYPE_CHECKING:
    from harness.store import Store
    from harness.training.run import TrainingJob, TrainingSummary
    from spaces.base import Architecture, NetworkConfig

Recipe = Annotated[
    str, typer.Option(help="nasbench201-200, nasbench201-12, darts-cifar, sharpdarts-cifar or small.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs, instead of the recipe's.")]
TrainingBatch = Annotated[int | None, typer.Option("--batch-size", help="Images a step, instead of the recipe's.")]
LearningRate = Annotated[float | None, typer.Option(help="First learning rate, instead of the recipe's.")]
Schedule = Annotated[str | None, typer.Option(help="How the learning rate falls, instead of the recipe's.")]
Power = Annotated[float | None, typer.Option(help="Power of the schedule cosine-power; 1 is the cosine.")]
Genotypes = Annotated[list[str], typer.Option("--genotype", help="One architecture as text, repeatable.")]
TrainImages = Annotated[int | None, typer.Option(help="Train on at most so many images.")]


def train(
    space: options.Space = "nasbench201",
    dataset: options.DatasetName = "digits",
    data_dir: options.DataDir = options.DEFAULT_DATA,
    download: options.Download = False,
    image_size: options.ImageSize = None,
    recipe: Recipe = "small",
    epochs: Epochs = None,
    batch_size: TrainingBatch = None,
    learning_rate: LearningRate = None,
    train_images: TrainImages = None,
    schedule: Schedule = None,
    power: Power = None,
    seed: options.Seed = 0,
    sample: options.Sample = None,
    everything: options.Everything = False,
    architectures: options.Architectures = None,
    genotype: Genotypes = [],  # noqa: B006 - typer copies it
    channels: options.Channels = None,
    cells: options.Cells = None,
    device: options.Device = "auto",
    processes: options.Processes = None,
    store: options.StorePath = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Train architectures as ground truth. The same command again continues where it stopped."""
    from harness.selection import select_architectures
    from harness.store import Store
    from harness.training.recipes import load_recipe
    from harness.training.run import TrainingJob

    chosen_recipe = load_recipe(
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        train_images=train_images,
        schedule=schedule,
        power=power,
    )
    setting = load_setting(
        space,
        dataset,
        data_dir=data_dir,
        download=download,
        image_size=image_size,
        device=device,
        channels=channels,
        cells=cells,
    )
    chosen = select_architectures(
        setting.space,
        sample=sample,
        everything=everything,
        architectures=architectures,
        seed=seed,
        genotypes=genotype,
    )
    config = with_auxiliary_head(setting.config) if chosen_recipe.auxiliary else setting.config
    job = TrainingJob(space, config, chosen_recipe, seed, dataset, data_dir, image_size, setting.device)
    with Store(store) as opened:
        summary = run_training(job, chosen, opened, processes=processes)
    if as_json:
        print_json({**asdict(summary), "store": str(store)})
    else:
        print(f"{describe(summary)}; in {store}")
    if summary.interrupted:
        raise KeyboardInterrupt


def with_auxiliary_head(config: NetworkConfig) -> NetworkConfig:
    """The config of networks that have the head a recipe weighs; others have none to train."""
    return replace(config, **{"auxiliary": True}) if hasattr(config, "auxiliary") else config


def run_training(
    job: TrainingJob, architectures: list[Architecture], store: Store, *, processes: int | None
) -> TrainingSummary:
    """Train with a progress bar; checkpoints lie beside the store until a training is finished."""
    from harness.machine import cores
    from harness.progress import progress_bar
    from harness.records import Run
    from harness.training.run import train_architectures

    workers = processes or (cores() if job.device == "cpu" else 1)
    folder = Path(f"{store.path}.checkpoints")
    with progress_bar(f"train {job.recipe.name}", len(architectures)) as progress:
        summary = train_architectures(
            job, architectures, store, checkpoints=folder, processes=workers, progress=progress
        )
    if summary.trained:
        context = store.training_context(job.context())
        store.add_training_run(context, Run(command_line(), summary.trained, summary.seconds))
    if not summary.interrupted and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return summary


def describe(summary: TrainingSummary) -> str:
    """What a run did, on one line."""
    return (
        f"{summary.asked} asked for: {summary.trained} trained in {summary.seconds:.1f} s, "
        f"{summary.cached} cached, {summary.equal} equal to another"
    )
