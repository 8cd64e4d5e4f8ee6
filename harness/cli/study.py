"""`tfnas study`: ask a question about scores and write the answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.options import command_line, print_json, say
from harness.cli.results import print_table
from harness.cli.setting import load_setting
from harness.cli.training import Recipe
from spaces.errors import InputError

if TYPE_CHECKING:
    from harness.store import Store
    from harness.truth import TruthTable
    from reports.studies.base import StudySetting
    from spaces.base import NetworkConfig

EVERY_STUDY = "all"
EPOCHS = 12
BUDGET = 100

REDUCED = {"channels": 8, "cells": 1}
"""Of networks that a study trains where no size is given: seconds an epoch on one core."""

Name = Annotated[str, typer.Argument(help="Study; `tfnas study list` names them; all: those of scores.")]
Truth = Annotated[str | None, typer.Option(help="Table of accuracies, or trained: those in the store.")]
Peers = Annotated[Path | None, typer.Option(help="Table of published scores, for the study peers.")]
Sample = Annotated[int | None, typer.Option(min=4, help="Architectures, instead of the study's number.")]
Runs = Annotated[int | None, typer.Option(min=2, help="Repetitions or draws, instead of the study's number.")]
Budget = Annotated[int, typer.Option(min=10, help="Networks that a search of the study search may train.")]
Epochs = Annotated[int, typer.Option(min=1, help="Epochs of the trainings of the study training.")]
Scale = Annotated[
    Literal["reduced", "published"], typer.Option(help="Size of the searches of the study collapse.")
]
Out = Annotated[Path, typer.Option(help="Folder of tables, pictures and the page.")]

DEFAULT_OUT = Path("tfnas-study")


def study(
    name: Name,
    space: options.Space = "nasbench201",
    scorer: options.Scorers = ["naswot", "naswot-published"],  # noqa: B006 - typer copies it
    dataset: options.DatasetName = "digits",
    data_dir: options.DataDir = options.DEFAULT_DATA,
    download: options.Download = False,
    image_size: options.ImageSize = None,
    batch_size: options.BatchSize = 128,
    truth: Truth = None,
    column: options.Column = None,
    peers: Peers = None,
    sample: Sample = None,
    runs: Runs = None,
    budget: Budget = BUDGET,
    recipe: Recipe = "small",
    epochs: Epochs = EPOCHS,
    scale: Scale = "reduced",
    channels: options.Channels = None,
    cells: options.Cells = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    processes: options.Processes = None,
    store: options.StorePath = options.DEFAULT_STORE,
    out: Out = DEFAULT_OUT,
    as_json: options.Json = False,
) -> None:
    """Answer a question with numbers, pictures and a page. The same command again measures nothing twice."""
    from reports.studies.registry import OF_THE_ARTICLE

    if name == "list":
        list_studies(as_json)
        return
    names = list(OF_THE_ARTICLE) if name == EVERY_STUDY else [name]
    from harness.scorers.base import load_scorer
    from harness.store import Store
    from harness.training.recipes import load_recipe
    from reports.studies.base import StudySetting, load_study

    for each in names:
        load_study(each)
    for each in scorer:
        load_scorer(each)
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
    with Store(store) as opened:
        asked = StudySetting(
            space=setting.space,
            config=setting.config,
            training_config=_training_config(setting.config, channels, cells),
            recipe=load_recipe(recipe, epochs=epochs),
            dataset=setting.dataset,
            dataset_name=dataset,
            data_dir=data_dir,
            image_size=image_size,
            device=setting.device,
            backend=backend,
            processes=processes,
            scorers=tuple(dict.fromkeys(scorer)),
            batch_size=batch_size,
            seed=seed,
            store=opened,
            truth=None if truth is None else _truth_table(truth, opened, space),
            column=column,
            peers=peers,
            sample=sample,
            runs=runs,
            budget=budget,
            command=command_line(),
            scale=scale,
        )
        documents = _answer_all(names, asked, out, quiet=as_json)
    if as_json:
        print_json({"studies": documents, "page": str(out / "index.html"), "store": str(store)})
    else:
        print(f"page: {out / 'index.html'}")


def list_studies(as_json: bool) -> None:
    """Name and question of every study."""
    from reports.studies.base import load_study
    from reports.studies.registry import MODULES

    studies = [load_study(name) for name in MODULES]
    if as_json:
        print_json([{"name": study.name, "question": study.question} for study in studies])
        return
    width = max(len(study.name) for study in studies)
    for study in studies:
        print(f"{study.name:<{width}}  {study.question}")


def _answer_all(names: list[str], setting: StudySetting, out: Path, *, quiet: bool) -> list[dict[str, Any]]:
    """Answer each; of several, one that lacks something is left out with its reason, unless all do."""
    documents: list[dict[str, Any]] = []
    for name in names:
        try:
            documents.append(_answer(name, setting, out, quiet=quiet))
        except InputError as error:
            if name == names[-1] and not documents:
                raise
            say(f"{name} is left out: {error}")
    return documents


def _answer(name: str, setting: StudySetting, out: Path, *, quiet: bool) -> dict[str, Any]:
    """Run a study, write its files and show its answer."""
    from harness.progress import progress_bar
    from reports.studies.base import load_study
    from reports.studies.page import save_findings, study_document
    from reports.studies.words import console_table

    study = load_study(name)
    started = time.perf_counter()
    findings = study.run(setting, progress_bar)
    seconds = time.perf_counter() - started
    save_findings(study, findings, setting, seconds, out)
    if not quiet:
        print(f"\n{study.title}: {study.question}")
        for shown in findings.tables:
            print_table(console_table(shown))
        for sentence in findings.sentences:
            print(f"- {sentence}")
    return study_document(study, findings, setting, seconds)


def _truth_table(truth: str, store: Store, space: str) -> TruthTable:
    from harness.comparison import TRAINED
    from harness.truth import load_truth
    from reports.studies.accuracies import trained_table

    return trained_table(store, space) if truth == TRAINED else load_truth(Path(truth))


def _training_config(config: NetworkConfig, channels: int | None, cells: int | None) -> NetworkConfig:
    """The size of networks that are trained: as given, else reduced where the space has such settings."""
    from dataclasses import fields, replace

    given: dict[str, Any] = {"channels": channels, "cells": cells}
    known = {field.name for field in fields(config)}
    reduced = {name: value for name, value in REDUCED.items() if name in known and given[name] is None}
    return replace(config, **reduced)
