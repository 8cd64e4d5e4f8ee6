import io
import sys

import pytest

from harness.progress import ProgressLines, progress_bar


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_most_every_30_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("train", 1000, clock)
    for _ in range(100):
        clock.now += 1
        lines.advance()
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.split(" in ")[0] for line in output.err.splitlines()] == [
        "train: 30/1000",
        "train: 60/1000",
        "train: 90/1000",
    ]


def test_the_rate_leaves_out_what_was_found_done(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("train", 120, clock)
    lines.advance(100)
    clock.now = 60
    lines.advance(10)
    assert capsys.readouterr().err == "train: 110/120 in 0:01:00, 10.0 a minute, 0:01:00 left\n"


def test_a_line_ends_with_the_last_note(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("search", 120, clock)
    lines.note("best 1 at step 0")
    clock.now = 60
    lines.note("best 2 at step 7")
    lines.advance(60)
    lines.advance(0)
    clock.now = 120
    lines.advance(0)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("60/120 in 0:01:00, best 2 at step 7")
    assert second.endswith("best 2 at step 7")


def test_without_a_terminal_a_short_command_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("score", 2) as progress:
        progress.advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("score", 5) as progress:
        progress.note("[best] 3")
        progress.advance()
        progress.advance(4)
    assert "[best] 3" in terminal.getvalue()
    assert "score" in terminal.getvalue()
    assert "5/5" in terminal.getvalue()
    assert "a minute" in terminal.getvalue()
