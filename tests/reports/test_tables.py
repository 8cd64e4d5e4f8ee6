"""Agreements as tables."""

import io

import numpy as np
import pytest
from rich.console import Console

from reports.statistics import agreement
from reports.tables import console_table, markdown_table


@pytest.fixture
def agreements():
    scores = np.array([3.0, 1.0, 4.0, 1.5, 9.0, np.nan])
    truth = np.array([80.0, 70.0, 90.0, 85.0, 92.0, 75.0])
    return [
        agreement("naswot", "test_ImageNet16-120_200ep", scores, truth, top_k=2),
        agreement("[red]a|b", "test_cifar10_200ep", np.full(6, np.nan), truth),
    ]


def printed(table, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_the_console_table_fits_80_columns_uncut(agreements):
    text = printed(console_table(agreements), 80)
    assert "…" not in text
    for cell in ("naswot", "0.800", "2 of 2", "92.00", "n/a"):
        assert cell in text
    assert str(agreements[0].kendall).split(" ", 1)[1] in text


def test_names_are_not_read_as_markup(agreements):
    assert "[red]a|b" in printed(console_table(agreements), 120)


def test_the_markdown_table_has_a_line_for_each_ranking_and_equal_cells(agreements):
    lines = markdown_table(agreements).splitlines()
    assert len(lines) == 4
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert cells == [12] * 4


def test_the_markdown_table_gives_values_intervals_and_counts(agreements):
    row = markdown_table(agreements).splitlines()[2]
    assert row.startswith(f"| naswot | test_ImageNet16-120_200ep | 5 | 1 | {agreements[0].kendall} |")
    assert row.endswith("| 2 of 2 | 92.00 | 0.00 | 92.00 |")


def test_a_pipe_in_a_name_does_not_end_its_cell(agreements):
    assert "[red]a\\|b" in markdown_table(agreements)


def test_shares_are_given_with_four_decimals():
    truth = np.array([0.9437, 0.9, 0.85])
    row = markdown_table([agreement("naswot", "accuracy", np.array([1.0, 3.0, 2.0]), truth, top_k=1)])
    assert "| 0 of 1 | 0.9000 | 0.0437 | 0.9000 |" in row
