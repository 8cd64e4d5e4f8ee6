"""`tfnas bench`: the whole main path in one command."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, results, scoring, training
from harness.cli.options import print_json, say
from harness.cli.setting import load_setting
from spaces.errors import InputError

if TYPE_CHECKING:
    from reports.page import Cost

REDUCED_CHANNELS, REDUCED_CELLS, SAMPLE = 4, 1, 60
"""What trains in minutes on two cores: for the embedded digits where nothing else is asked for."""


def bench(
    space: options.Space = "nasbench201",
    scorer: options.Scorers = ["naswot", "naswot-published"],  # noqa: B006 - typer copies it
    dataset: options.DatasetName = "digits",
    data_dir: options.DataDir = options.DEFAULT_DATA,
    download: options.Download = False,
    image_size: options.ImageSize = None,
    batch_size: options.BatchSize = 128,
    seed: options.Seed = 0,
    sample: Annotated[int | None, typer.Option(help="Draw so many architectures; 60 by default.")] = None,
    everything: options.Everything = False,
    architectures: options.Architectures = None,
    channels: options.Channels = None,
    cells: options.Cells = None,
    truth: options.TruthName = "trained",
    column: options.Column = None,
    baseline: options.Baselines = [],  # noqa: B006 - typer copies it
    drop_missing: options.DropMissing = False,
    recipe: training.Recipe = "small",
    epochs: training.Epochs = None,
    unscored: options.Unscored = "drop",
    top_k: options.TopK = 10,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    processes: options.Processes = None,
    store: options.StorePath = options.DEFAULT_STORE,
    out: options.Out = options.DEFAULT_REPORT,
    as_json: options.Json = False,
) -> None:
    """Score, train (or read a truth table), correlate and report.

    Without options: the embedded digits, a reduced network, 60 cells, minutes on two cores.
    """
    from harness.comparison import TRAINED, compare, table_column, table_truth, trained_truth
    from harness.datasets import draw_batch
    from harness.engine import CHUNK
    from harness.selection import select_architectures
    from harness.store import Store
    from harness.training.recipes import load_recipe
    from harness.training.run import TrainingJob
    from harness.truth import load_truth
    from reports.page import Cost
    from reports.tables import console_table
    from spaces.registry import load_space

    table = None if truth == TRAINED else load_truth(Path(truth))
    if table is None and baseline:
        raise InputError("--baseline names a column of a truth table; give --truth FILE with it")
    known = None if table is None else table_truth(table, column, load_space(space))
    baselines = {} if table is None else {name: table_column(table, name, load_space(space)) for name in baseline}
    if table is None and dataset == "digits" and space == "nasbench201":
        channels = REDUCED_CHANNELS if channels is None else channels
        cells = REDUCED_CELLS if cells is None else cells
    if sample is None and not everything and architectures is None:
        sample = SAMPLE
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
    training_job = TrainingJob(
        space,
        setting.config,
        load_recipe(recipe, epochs=epochs),
        seed,
        dataset,
        data_dir,
        image_size,
        setting.device,
    )
    chosen = select_architectures(
        setting.space, sample=sample, everything=everything, architectures=architectures, seed=seed
    )
    batch = draw_batch(setting.dataset, batch_size, seed)
    jobs = scoring.scoring_jobs(setting, scorer, chosen, batch, seed, backend=backend)
    costs: list[Cost] = []
    with Store(store) as opened:
        scored = scoring.run_jobs(jobs, chosen, opened, processes=processes, chunk=CHUNK)
        for name, summary in scored.items():
            say(f"{name}: {scoring.describe(summary)}")
        if any(summary.interrupted for summary in scored.values()):
            raise KeyboardInterrupt
        if known is None:
            trained = training.run_training(training_job, chosen, opened, processes=processes)
            if trained.interrupted:
                raise KeyboardInterrupt
            context = opened.training_context(training_job.context())
            known = trained_truth(opened, context, column)
            runs = opened.training_runs(context)
            note = f"{training_job.recipe.name}, {training_job.recipe.epochs} epochs on {setting.device}"
            count, seconds = (sum(run.computed for run in runs), sum(run.seconds for run in runs))
            costs.append(Cost("training", count, seconds, note))
        contexts = [opened.score_context(job.context()) for job in jobs]
        comparisons = compare(opened, contexts, known, baselines=baselines, drop_missing=drop_missing)
    found = results.agreed(comparisons, unscored, top_k)
    page = results.write_page(comparisons, found, space, out, costs)
    if as_json:
        rows = [results.document(*pair) for pair in zip(comparisons, found, strict=True)]
        print_json(
            {
                "page": str(page),
                "store": str(store),
                "agreements": rows,
                "score": {name: asdict(summary) for name, summary in scored.items()},
            }
        )
        return
    results.print_table(console_table(found))
    print(f"report: {page}")
