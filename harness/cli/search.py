"""`tfnas search`: find one architecture of a space."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import options
from harness.cli.options import print_json, say
from harness.cli.setting import dataset_or_default, load_setting
from harness.search.base import METHODS, SearchJob, load_method

Method = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(METHODS)}. Default: darts, in space darts-rnn darts-rnn.")
]
Order = Annotated[int | None, typer.Option(help="1: alphas by the weights as they are; 2: after a virtual step.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs, instead of the method's.")]
SearchBatch = Annotated[
    int | None, typer.Option("--batch-size", help="Images or readers a step, instead of the method's.")
]
LearningRate = Annotated[float | None, typer.Option(help="First learning rate, instead of the method's.")]
Schedule = Annotated[str | None, typer.Option(help="How the learning rate falls, instead of the method's.")]
Power = Annotated[float | None, typer.Option(help="Power of the schedule cosine-power; 1 is the cosine.")]
RateWarmup = Annotated[int | None, typer.Option(help="Epochs in which the rate of cosine-power rises.")]
Cutout = Annotated[int | None, typer.Option(help="Side of the square cut out of every image, in pixels.")]
TrainImages = Annotated[int | None, typer.Option(help="Train the weights on at most so many images.")]
ValidationFraction = Annotated[
    float | None, typer.Option(help="Share of the training images that move the alphas, instead of the method's.")
]
Weighting = Annotated[str | None, typer.Option(help="How operations are mixed: softmax or max-w.")]
Unshared = Annotated[bool, typer.Option("--unshared", help="Alphas of its own for every cell.")]
WarmupEpochs = Annotated[int | None, typer.Option(help="Epochs in which the alphas rest.")]
SkipLimit = Annotated[
    int | None, typer.Option(help="Stop at so many skip-connections in the normal cell derived.")
]
StableEpochs = Annotated[
    int | None, typer.Option(help="Stop when the learnable operations keep their ranking for so many epochs.")
]
PastStop = Annotated[bool, typer.Option("--past-stop", help="Run to the last epoch; the answer stays the stop's.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into --out.")]
Fitness = Annotated[
    str | None,
    typer.Option(help="What evolution maximises: accuracy, a scorer, or SCORER+accuracy to train the best."),
]
Steps = Annotated[int | None, typer.Option(help="Architectures that evolution evaluates.")]
Population = Annotated[int | None, typer.Option(help="First architectures of evolution, drawn at random.")]
Workers = Annotated[int | None, typer.Option(help="Evaluations at a time.")]
Engine = Annotated[str | None, typer.Option(help="Where evaluations run: local or ray.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster, or auto.")]
WorkerCpus = Annotated[float | None, typer.Option(help="CPU cores that a worker on Ray takes of its node.")]
WorkerGpus = Annotated[float | None, typer.Option(help="GPUs that a worker on Ray takes, or a share of one.")]
Recipe = Annotated[str | None, typer.Option(help="Recipe that trains for the fitness accuracy.")]
Evaluate = Annotated[
    int | None,
    typer.Option(min=1, help="Train what so many epochs of a differentiable search derive, for its page."),
]
EvaluateRecipe = Annotated[str, typer.Option(help="Recipe of --evaluate.")]
AlphaRate = Annotated[float | None, typer.Option(help="Learning rate of the alphas, instead of the method's.")]
Out = Annotated[Path, typer.Option(help="Folder of checkpoint, curves, page and the architecture found.")]

DEFAULT_OUT = Path("tfnas-search")

DEFAULT_METHODS = {"darts-rnn": "darts-rnn"}
"""Of spaces whose supernet reads no images."""

TRAINED_WITH = {
    "nasbench201": ("--recipe", "nasbench201-200"),
    "darts": ("--recipe", "darts-cifar", "--channels", "36", "--cells", "20"),
    "sharpdarts": ("--recipe", "sharpdarts-cifar", "--channels", "36", "--cells", "20"),
    "darts-rnn": ("--recipe", "darts-ptb", "--hidden", "850"),
}
"""How the literature trains what is found in a space; elsewhere the default recipe serves."""


def search(
    method: Method = None,
    space: options.Space = "nasbench201",
    dataset: options.AnyDataset = None,
    data_dir: options.DataDir = options.DEFAULT_DATA,
    download: options.Download = False,
    image_size: options.ImageSize = None,
    order: Order = None,
    epochs: Epochs = None,
    batch_size: SearchBatch = None,
    learning_rate: LearningRate = None,
    alpha_learning_rate: AlphaRate = None,
    schedule: Schedule = None,
    power: Power = None,
    rate_warmup: RateWarmup = None,
    cutout: Cutout = None,
    train_images: TrainImages = None,
    validation_fraction: ValidationFraction = None,
    dropout: options.Dropout = None,
    weighting: Weighting = None,
    unshared: Unshared = False,
    warmup_epochs: WarmupEpochs = None,
    skip_limit: SkipLimit = None,
    stable_epochs: StableEpochs = None,
    past_stop: PastStop = False,
    tensorboard: TensorBoard = False,
    evaluate: Evaluate = None,
    evaluate_recipe: EvaluateRecipe = "small",
    fitness: Fitness = None,
    steps: Steps = None,
    population: Population = None,
    workers: Workers = None,
    engine: Engine = None,
    address: Address = None,
    worker_cpus: WorkerCpus = None,
    worker_gpus: WorkerGpus = None,
    recipe: Recipe = None,
    channels: options.Channels = None,
    cells: options.Cells = None,
    hidden: options.Hidden = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    store: options.StorePath = options.DEFAULT_STORE,
    out: Out = DEFAULT_OUT,
    as_json: options.Json = False,
) -> None:
    """Search for an architecture. The same command again continues where it stopped."""
    from harness.cli.search_page import Trainings, make_search_page
    from harness.progress import progress_bar
    from harness.search.epochs import EpochSearch
    from harness.store import Store

    settings = {
        "order": order,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "alpha_learning_rate": alpha_learning_rate,
        "schedule": schedule,
        "power": power,
        "warmup": rate_warmup,
        "cutout": cutout,
        "train_images": train_images,
        "validation_fraction": validation_fraction,
        "dropout": dropout,
        "weighting": weighting,
        "shared": False if unshared else None,
        "warmup_epochs": warmup_epochs,
        "skip_limit": skip_limit,
        "stable_epochs": stable_epochs,
        "past_stop": past_stop or None,
        "tensorboard": tensorboard or None,
        "fitness": fitness,
        "steps": steps,
        "population": population,
        "workers": None if evaluate else workers,
        "engine": engine,
        "address": address,
        "cpus": worker_cpus,
        "gpus": worker_gpus,
        "recipe": recipe,
    }
    method = method or DEFAULT_METHODS.get(space, "darts")
    dataset = dataset_or_default(dataset, space)
    chosen = load_method(method, {name: value for name, value in settings.items() if value is not None})
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
    )
    out.mkdir(parents=True, exist_ok=True)
    say(f"search {method} with {chosen.recipe_text()}")
    with Store(store) as opened:
        job = SearchJob(setting.space, setting.config, setting.dataset, seed, setting.device, opened, out)
        with progress_bar(f"search {method}", chosen.steps) as progress:
            found = chosen.run(job, progress)
        (out / f"{method}-{setting.space.name}-seed{seed}.txt").write_text(f"{found.architecture}\n")
        training = training_command(setting.space.name, found.architecture, dataset, seed, store)
        page = None
        if isinstance(chosen, EpochSearch):
            wanted = evaluate and Trainings(evaluate, evaluate_recipe, dataset, data_dir, image_size, workers)
            page = make_search_page(chosen, job, found, training, wanted or None)
    shown = {"page": str(page)} if page else {}
    if as_json:
        print_json(
            {"genotype": found.architecture, **asdict(found), "train": training, "store": str(store), **shown}
        )
        return
    print(f"architecture: {found.architecture}")
    print(f"rule: {found.rule}, epoch {found.epoch}: {found.reason}")
    print(f"seconds: {found.seconds:.1f}")
    print(f"train it: {training}")
    if page:
        print(f"page: {page}")


def training_command(space: str, architecture: str, dataset: str, seed: int, store: Path) -> str:
    """The command that trains what was found."""
    parts: list[Any] = ["tfnas", "train", "--space", space, "--genotype", architecture, "--dataset", dataset]
    parts += [*TRAINED_WITH.get(space, ()), "--seed", seed, "--store", store]
    return shlex.join(map(str, parts))
