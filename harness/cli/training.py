"""`tfnas train`: make ground truth here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.options import command_line, print_json
from harness.cli.setting import dataset_or_default, load_setting

if TYPE_CHECKING:
    from harness.datasets import Dataset
    from harness.distributed import Engine
    from harness.store import Store
    from harness.training.recipes import Recipe as ImageRecipe
    from harness.training.run import TrainingJob, TrainingSummary
    from harness.training.text_recipes import LanguageRecipe
    from spaces.base import Architecture, NetworkConfig

Recipe = Annotated[
    str,
    typer.Option(
        help="nasbench201-200, nasbench201-12, darts-cifar, darts-imagenet, sharpdarts-cifar, small or tiny; "
        "for text darts-ptb, darts-wikitext2 or small."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs, instead of the recipe's.")]
TrainingBatch = Annotated[
    int | None, typer.Option("--batch-size", help="Images or readers a step, instead of the recipe's.")
]
LearningRate = Annotated[float | None, typer.Option(help="First learning rate, instead of the recipe's.")]
Schedule = Annotated[str | None, typer.Option(help="How the learning rate falls, instead of the recipe's.")]
Power = Annotated[float | None, typer.Option(help="Power of the schedule cosine-power; 1 is the cosine.")]
Genotypes = Annotated[list[str], typer.Option("--genotype", help="One architecture as text, repeatable.")]
Cutout = Annotated[int | None, typer.Option(help="Side of the square cut out of every image, in pixels.")]
Mixup = Annotated[float | None, typer.Option(help="Blend pairs of images by Beta(A, A), instead of the recipe's.")]
Stem = Annotated[str | None, typer.Option(help="First layers of a network that has a choice: cifar or imagenet.")]
SqueezeExcitation = Annotated[
    bool, typer.Option("--squeeze-excitation", help="Gate the channels of every cell's output.")
]
TrainImages = Annotated[int | None, typer.Option(help="Train on at most so many images.")]


def train(
    space: options.Space = "nasbench201",
    dataset: options.AnyDataset = None,
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
    cutout: Cutout = None,
    mixup: Mixup = None,
    seed: options.Seed = 0,
    sample: options.Sample = None,
    everything: options.Everything = False,
    architectures: options.Architectures = None,
    genotype: Genotypes = [],  # noqa: B006 - typer copies it
    channels: options.Channels = None,
    cells: options.Cells = None,
    stem: Stem = None,
    squeeze_excitation: SqueezeExcitation = False,
    hidden: options.Hidden = None,
    dropout: options.Dropout = None,
    device: options.Device = "auto",
    processes: options.Processes = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    worker_cpus: options.WorkerCpus = 1.0,
    worker_gpus: options.WorkerGpus = 0.0,
    store: options.StorePath = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Train architectures as ground truth. The same command again continues where it stopped."""
    from harness.distributed import cluster_engine
    from harness.selection import select_architectures
    from harness.store import Store
    from harness.training.run import TrainingJob, load_any_recipe
    from spaces.registry import load_space

    cluster = cluster_engine(engine, processes, address, worker_cpus, worker_gpus)
    dataset = dataset_or_default(dataset, space)
    chosen_recipe = load_any_recipe(
        recipe,
        load_space(space).reads,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        train_images=train_images,
        schedule=schedule,
        power=power,
        cutout=cutout,
        mixup=mixup,
        dropout=dropout,
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
        hidden=hidden,
        stem=stem,
        squeeze_excitation=squeeze_excitation or None,
    )
    chosen = select_architectures(
        setting.space,
        sample=sample,
        everything=everything,
        architectures=architectures,
        seed=seed,
        genotypes=genotype,
    )
    job = TrainingJob(
        space,
        training_config(setting.config, chosen_recipe),
        chosen_recipe,
        seed,
        dataset,
        data_dir,
        image_size,
        setting.device,
    )
    with Store(store) as opened:
        summary = run_training(job, chosen, opened, processes=processes, cluster=cluster)
        perplexities = trained_perplexities(job, setting.dataset, chosen, opened)
    if as_json:
        shown = {"perplexities": [asdict(each) for each in perplexities]} if perplexities else {}
        print_json({**asdict(summary), **shown, "store": str(store)})
    else:
        for each in perplexities:
            print(f"{each.genotype}: validation {each.validation:.1f}, test {each.test:.1f}; {each.note}")
        print(f"{describe(summary)}; in {store}")
    if summary.interrupted:
        raise KeyboardInterrupt


def training_config(config: NetworkConfig, recipe: ImageRecipe | LanguageRecipe) -> NetworkConfig:
    """The config of networks that have the head a recipe weighs; others have none to train."""
    weighed = getattr(recipe, "auxiliary", 0) and hasattr(config, "auxiliary")
    return replace(config, **{"auxiliary": True}) if weighed else config


@dataclass(frozen=True)
class Perplexities:
    """What a language model reached after training, and the unigram model beside it, by split."""

    genotype: str
    validation: float
    test: float
    best_epoch: int
    averaged_since: int | None
    unigram_validation: float
    unigram_test: float

    @property
    def note(self) -> str:
        """What stands behind the two figures."""
        averaged = "not averaged" if self.averaged_since is None else f"averaged since epoch {self.averaged_since}"
        return (
            f"epoch {self.best_epoch}, {averaged}; "
            f"unigram model {self.unigram_validation:.1f} and {self.unigram_test:.1f}"
        )


def trained_perplexities(
    job: TrainingJob, corpus: Dataset, architectures: list[Architecture], store: Store
) -> list[Perplexities]:
    """Those of the architectures that are trained, none where they read images."""
    from harness.datasets.text import Corpus
    from harness.training.perplexities import PerplexityTable
    from spaces.registry import load_space

    if not isinstance(corpus, Corpus):
        return []
    space = load_space(job.space)
    known = PerplexityTable(store).read(store.training_context(job.context()))
    unigram = [corpus.unigram_perplexity(tokens) for tokens in (corpus.tokens.validation, corpus.tokens.test)]
    found = []
    for architecture in architectures:
        record = known.get(str(space.canonical(architecture, "live")))
        if record:
            values = (
                record.validation_perplexity,
                record.test_perplexity,
                record.best_epoch,
                record.averaged_since,
            )
            found.append(Perplexities(str(architecture), *values, *unigram))
    return found


def run_training(
    job: TrainingJob,
    architectures: list[Architecture],
    store: Store,
    *,
    processes: int | None,
    cluster: Engine | None = None,
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
            job,
            architectures,
            store,
            checkpoints=folder,
            processes=workers,
            progress=progress,
            engine=cluster,
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
