"""`tfnas score`: score architectures of a space on a batch of a data set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.options import command_line, print_json, say
from harness.cli.setting import Setting, dataset_or_default, load_setting

if TYPE_CHECKING:
    from harness.datasets import Batch
    from harness.distributed import Engine
    from harness.engine import ScoringJob, ScoringSummary
    from harness.store import Store
    from spaces.base import Architecture


def score(
    space: options.Space = "nasbench201",
    scorer: options.Scorers = ["naswot"],  # noqa: B006 - typer copies it
    dataset: options.AnyDataset = None,
    data_dir: options.DataDir = options.DEFAULT_DATA,
    download: options.Download = False,
    image_size: options.ImageSize = None,
    batch_size: options.BatchSize = 128,
    seed: options.Seed = 0,
    sample: options.Sample = None,
    everything: options.Everything = False,
    architectures: options.Architectures = None,
    channels: options.Channels = None,
    cells: options.Cells = None,
    hidden: options.Hidden = None,
    no_canonical: Annotated[
        bool, typer.Option("--no-canonical", help="Score every architecture as written, not its representative.")
    ] = False,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    processes: options.Processes = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    worker_cpus: options.WorkerCpus = 1.0,
    worker_gpus: options.WorkerGpus = 0.0,
    chunk: Annotated[int | None, typer.Option(min=1, help="Architectures per transaction.")] = None,
    store: options.StorePath = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Score architectures. The same command again continues where it stopped."""
    from harness.datasets import draw_batch
    from harness.distributed import cluster_engine
    from harness.engine import CHUNK
    from harness.selection import select_architectures
    from harness.store import Store

    cluster = cluster_engine(engine, processes, address, worker_cpus, worker_gpus)
    setting = load_setting(
        space,
        dataset_or_default(dataset, space),
        data_dir=data_dir,
        download=download,
        image_size=image_size,
        device=device,
        channels=channels,
        cells=cells,
        hidden=hidden,
    )
    chosen = select_architectures(
        setting.space, sample=sample, everything=everything, architectures=architectures, seed=seed
    )
    batch = draw_batch(setting.dataset, batch_size, seed)
    jobs = scoring_jobs(setting, scorer, chosen, batch, seed, backend=backend, canonical=not no_canonical)
    with Store(store) as opened:
        summaries = run_jobs(jobs, chosen, opened, processes=processes, chunk=chunk or CHUNK, cluster=cluster)
    if as_json:
        print_json(summary_document(summaries, str(store)))
    else:
        for name, summary in summaries.items():
            print(f"{name}: {describe(summary)}; in {store}")
    if any(summary.interrupted for summary in summaries.values()):
        raise KeyboardInterrupt


def scoring_jobs(
    setting: Setting,
    scorers: list[str],
    architectures: list[Architecture],
    batch: Batch,
    seed: int,
    *,
    backend: str,
    canonical: bool = True,
) -> list[ScoringJob]:
    """One job per different scorer, all on the same batch, each known to fit in memory."""
    from harness.backends import choose_backend
    from harness.engine import ScoringJob, check_memory, some_plans
    from harness.scorers.base import load_scorer

    for name in scorers:
        load_scorer(name)
    texts = list(map(str, architectures))
    jobs = []
    for name in dict.fromkeys(scorers):
        plans = some_plans(setting.space, setting.config, name, texts)
        # Backends run plans: what reads the network itself is torch's.
        wanted = backend if load_scorer(name).reads == "plan" else "torch"
        chosen, reason = choose_backend(wanted, setting.device, plans)
        remark = f"{name}: torch backend, since {reason}" if reason and setting.device == "cpu" else None
        job = ScoringJob(
            setting.space.name, setting.config, name, seed, batch, setting.device, chosen, canonical, remark
        )
        check_memory(job, architectures)
        jobs.append(job)
    return jobs


def run_jobs(
    jobs: list[ScoringJob],
    architectures: list[Architecture],
    store: Store,
    *,
    processes: int | None,
    chunk: int,
    cluster: Engine | None = None,
) -> dict[str, ScoringSummary]:
    """Run the jobs, a family in one pass with one progress bar, and keep their wall clock in the store."""
    from harness.engine import families, score_together
    from harness.progress import progress_bar
    from harness.records import Run

    summaries: dict[str, ScoringSummary] = {}
    for family in families(jobs):
        for remark in dict.fromkeys(job.remark for job in family if job.remark):
            say(remark)
        names = ", ".join(job.scorer for job in family)
        with progress_bar(f"score {names}", len(architectures)) as progress:
            found = score_together(
                family, architectures, store, progress, processes=processes, chunk=chunk, engine=cluster
            )
        for job, summary in zip(family, found, strict=True):
            summaries[job.scorer] = summary
            if summary.computed:
                context = store.score_context(job.context())
                store.add_score_run(context, Run(command_line(), summary.computed, summary.seconds))
        if found[0].interrupted:
            break
    return {job.scorer: summaries[job.scorer] for job in jobs if job.scorer in summaries}


def describe(summary: ScoringSummary) -> str:
    """What a run did, on one line."""
    parts = [f"{summary.scored} scored"]
    parts += [f"{count} without a score ({reason})" for reason, count in summary.unscored.items()]
    parts.append(f"{summary.computed} computed in {summary.seconds:.1f} s ({summary.per_minute:.0f}/min)")
    if summary.copied:
        parts.append(f"{summary.copied} copied from a scorer that sees the same plan")
    parts += [f"{summary.cached} cached", f"{summary.equal} equal to another"]
    return ", ".join(parts)


def summary_document(summaries: dict[str, ScoringSummary], store: str) -> dict[str, Any]:
    """The JSON of `score`: totals over the scorers, then each scorer's own."""
    each = list(summaries.values())
    reasons: dict[str, int] = {}
    for summary in each:
        for reason, count in summary.unscored.items():
            reasons[reason] = reasons.get(reason, 0) + count
    seconds = sum(summary.seconds for summary in each)
    computed = sum(summary.computed for summary in each)
    return {
        "scored": sum(summary.scored for summary in each),
        "computed": computed,
        "cached": sum(summary.cached for summary in each),
        "copied": sum(summary.copied for summary in each),
        "equal": sum(summary.equal for summary in each),
        "unscored": reasons,
        "seconds": seconds,
        "per_minute": 60 * computed / seconds if seconds else 0.0,
        "store": store,
        "scorers": {
            name: {**asdict(summary), "per_minute": summary.per_minute} for name, summary in summaries.items()
        },
    }
