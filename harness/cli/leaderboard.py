"""`tfnas leaderboard`: every score of a space, and combinations of them, on the same architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, results
from harness.cli.options import command_line, print_json
from spaces.errors import InputError

if TYPE_CHECKING:
    from harness.comparison import Comparison
    from harness.store import Store
    from reports.build import Rule
    from reports.leaderboard import Entry, Rankings

DEFAULT_BOARD = Path("tfnas-leaderboard")


def leaderboard(
    space: options.Space = "nasbench201",
    scorer: Annotated[list[str] | None, typer.Option("--scorer", help="Only these scorers, repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only scores on this data set.")] = None,
    truth: options.TruthName = "trained",
    column: Annotated[
        list[str] | None, typer.Option(help="Column of the truth, repeatable: a board for each.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="Column of the truth from short trainings, repeatable; the first is the bar to beat."),
    ] = None,
    rank_average: Annotated[
        list[str] | None, typer.Option(help="Rankings to average by rank, such as naswot,params; repeatable.")
    ] = None,
    log_rank_sum: Annotated[
        list[str] | None, typer.Option(help="Rankings to combine as AZ-NAS does, separated by commas; repeatable.")
    ] = None,
    fit: Annotated[
        int | None, typer.Option(help="Regression of all scores on so many trained architectures, out of sample.")
    ] = None,
    drop_missing: options.DropMissing = False,
    unscored: options.Unscored = "last",
    top_k: options.TopK = 10,
    store: options.StorePath = options.DEFAULT_STORE,
    out: options.Out = DEFAULT_BOARD,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, all columns.")] = False,
    as_json: options.Json = False,
) -> None:
    """Rank the scorers: correlations, paired differences, combinations, cost; writes a page."""
    from harness.store import Store
    from reports.leaderboard import shared_rankings
    from reports.leaderboard_page import console_table, markdown_table, write_leaderboard

    wanted = [("rank-average", _names(text)) for text in rank_average or []]
    wanted += [("log-rank-sum", _names(text)) for text in log_rank_sum or []]
    boards: dict[str, list[Entry]] = {}
    with Store(store, create=False) as opened:
        columns: list[str | None] = [*column] if column else [None]
        for name in columns:
            comparisons = results.compared(
                opened, truth, name, space, scorer or [], dataset, baseline or [], drop_missing
            )
            rankings = shared_rankings(comparisons, _seconds(opened, comparisons), baseline or [])
            board = _board(rankings, _trainingfree(comparisons, rankings), space, wanted, fit, unscored, top_k)
            boards[board[0].agreement.truth] = board
    page = write_leaderboard(boards, space, _provenance(comparisons), out)
    if as_json:
        rows = {name: [entry.as_row() for entry in board] for name, board in boards.items()}
        print_json({"page": str(page), "boards": rows})
        return
    for against, board in boards.items():
        print(f"against {against}, {board[0].agreement.n:,} architectures")
        if markdown:
            print(markdown_table(board))
        else:
            results.print_table(console_table(board))
    print(f"page: {page}")


def _board(
    rankings: Rankings,
    trainingfree: list[str],
    space: str,
    wanted: list[tuple[str, list[str]]],
    fit: int | None,
    unscored: str,
    top_k: int,
) -> list[Entry]:
    """The rankings and the combinations of them that are wanted, ranked."""
    from reports.leaderboard import combined, fitted, leaderboard

    rules: dict[str, Rule] = {"drop": "drop", "last": "last"}
    if unscored not in rules:
        raise InputError(f"unknown --unscored {unscored!r}; allowed: drop, last")
    for method, members in wanted:
        rankings = combined(rankings, method, members)
    if fit is not None:
        rankings = fitted(rankings, trainingfree, fit)
    return leaderboard(rankings, space, unscored=rules[unscored], top_k=top_k)


def _seconds(store: Store, comparisons: list[Comparison]) -> dict[str, float]:
    """Mean seconds of an architecture's score, by name of the ranking; a score that others share counts once."""
    numbers = {context: number for number, context in store.score_contexts().items()}
    found = {}
    for comparison in comparisons:
        if comparison.context is not None:
            records = store.scores(numbers[comparison.context]).values()
            found[comparison.scorer] = sum(record.seconds for record in records) / len(records)
    return found


def _trainingfree(comparisons: list[Comparison], rankings: Rankings) -> list[str]:
    """Names of the scores and of the rankings by size: baselines of the user's may come from training."""
    from reports.leaderboard import SIZES

    scored = {comparison.scorer for comparison in comparisons if comparison.context is not None}
    return [name for name in rankings.scores if name in scored or name in SIZES]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _provenance(comparisons: list[Comparison]) -> dict[str, str]:
    """What is needed to get the same figures again."""
    from harness.machine import versions

    facts = {"command": command_line(), "versions": versions()}
    for comparison in comparisons:
        if comparison.context is not None:
            context = comparison.context
            facts[comparison.scorer] = (
                f"seed {context.seed}, {context.backend} on {context.device}, data {context.dataset}, "
                f"batch {context.batch} of {context.batch_size} images, {context.settings}"
            )
    return facts
