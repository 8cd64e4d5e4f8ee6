"""Is the checkout faster or slower than another revision? Both run the same commands, turn about.

    python -m benchmarks.compare REVISION [--rounds 3] [--only score]

The other revision is checked out into a temporary folder and its engine compiled there. Every figure is the
seconds of processor time of a whole `tfnas` process, start included, which other programs on the machine disturb
least; the table gives the smallest of all rounds. A command that one side does not know is left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[1]
CELLS = "--space nasbench201 --seed 7 --no-canonical --processes 1"
COMMANDS = {
    "start: tfnas --help": "--help",
    "score 24 cells, native backend": f"score --sample 24 --backend native {CELLS}",
    "score 6 cells, torch backend": f"score --sample 6 --backend torch {CELLS}",
    "score 12 published, native backend": f"score --sample 12 --scorer naswot-published --backend native {CELLS}",
    "score 3 of torchvision": "score --space torchvision --sample 3 --processes 1",
    "train 2 cells, 1 epoch": "train --sample 2 --epochs 1 --channels 4 --cells 1 --processes 1",
    "search 1 epoch": "search --method darts --epochs 1 --channels 4 --cells 1",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="what to compare with, such as HEAD~1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only figures whose name contains this")
    options = parser.parse_args()
    chosen = {name: command for name, command in COMMANDS.items() if options.only in name}
    with other_checkout(options.revision) as other:
        for checkout in (HERE, other):
            build_engine(checkout)
        print(f"| seconds of processor time | {options.revision} | this checkout | times as fast |")
        print("| --- | ---: | ---: | ---: |")
        for name, command in chosen.items():
            pairs = [(seconds_of(other, command), seconds_of(HERE, command)) for _ in range(options.rounds)]
            theirs, ours = zip(*pairs, strict=True)
            if None in theirs or None in ours:
                print(f"| {name} | not known to both | | |", flush=True)
                continue
            before, now = min(theirs), min(ours)
            print(f"| {name} | {before:.2f} | {now:.2f} | {before / now:.2f} |", flush=True)


@contextmanager
def other_checkout(revision: str) -> Iterator[Path]:
    """Folder of the revision, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", path, revision], cwd=HERE, check=True)
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", path], cwd=HERE, check=True)


def build_engine(checkout: Path) -> None:
    """Compile the native engine in place."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)


def seconds_of(checkout: Path, command: str) -> float | None:
    """Processor seconds of a command on an empty store; None where the checkout does not know it."""
    program = "from harness.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        store = "" if command == "--help" else f"--store {shlex.quote(folder)}/s.sqlite"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *shlex.split(f"{command} {store}")],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return None
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
