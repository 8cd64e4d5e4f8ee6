"""The command line: parse, call, print. Only here do harness and reports meet.

Exit codes: 0 done, 2 bad input (one line on stderr), 3 stopped with partial results kept.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from harness.cli import bench, leaderboard, lists, results, scoring, search, study, training
from spaces.errors import InputError, Stopped

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from harness.machine import versions

        print(versions())
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Score untrained networks and say honestly how well the score predicts trained accuracy."""
    del version


def main() -> None:
    """Run the command line. SIGTERM stops like Ctrl-C, so that what is done is kept."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """The command, its errors as one line and an exit code. Typer would turn Ctrl-C into a code of its own."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> None:
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except InputError as error:
            print(f"tfnas: {error}", file=sys.stderr)
            sys.exit(EXIT_BAD_INPUT)
        except KeyboardInterrupt:
            print("tfnas: stopped; what was finished is kept, the same command continues", file=sys.stderr)
            sys.exit(EXIT_STOPPED)
        except Stopped as error:
            print(f"tfnas: stopped; {error}", file=sys.stderr)
            sys.exit(EXIT_STOPPED)
        except BrokenPipeError:  # whoever read the output has gone: typer ends quietly
            raise
        except OSError as error:
            print(f"tfnas: {error}", file=sys.stderr)
            # What could not be written to stdout must not be tried again at exit.
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
            sys.exit(EXIT_BAD_INPUT)

    return run


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


COMMANDS: dict[str, Callable[..., None]] = {
    "spaces": lists.list_spaces,
    "scorers": lists.list_scorers,
    "datasets": lists.list_datasets,
    "score": scoring.score,
    "train": training.train,
    "search": search.search,
    "import": results.import_table,
    "correlate": results.correlate,
    "report": results.report,
    "study": study.study,
    "leaderboard": leaderboard.leaderboard,
    "bench": bench.bench,
    "export": results.export,
}
for name, command in COMMANDS.items():
    app.command(name)(_with_exit_codes(command))
