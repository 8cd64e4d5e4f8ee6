"""The page, written to a real folder and read back as a browser would."""

import json
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reports.page import Cost, Ranking, Report, write_report
from reports.statistics import agreement
from spaces.errors import InputError

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """Elements, text and script bodies of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.scripts, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def ranking(scorer="naswot", truth_name="test_cifar10_200ep", labels=None):
    scores = np.array([3.0, 1.0, np.nan, 1.5, 9.0, 2.6])
    truth = np.array([80.0, 70.0, 90.0, 85.0, 92.0, 75.0])
    result = agreement(scorer, truth_name, scores, truth, resamples=20)
    return Ranking(scorer, scores, truth, labels or [f"cell {i}" for i in range(6)], result)


def report(*rankings, **changes):
    content = {
        "title": "naswot on six cells",
        "summary": "It ranks them.",
        "rankings": rankings or (ranking(),),
        "unscored": {"naswot": {"singular kernel": 1}},
        "cost": (Cost("naswot", 6, 12.0, "CPU, batch 128"),),
        "provenance": {"command": "tfnas bench --seed 0"},
    }
    return Report(**(content | changes))


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_shows_every_part_of_the_report(tmp_path: Path):
    path = write_report(report(), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "index.html"
    text = " ".join(read(path).texts)
    kendall = report().rankings[0].agreement.kendall
    for part in (
        *("naswot on six cells", "It ranks them.", "test_cifar10_200ep", "singular kernel"),
        *(f"{kendall.value:.3f}", str(kendall).split(" ", 1)[1], "CPU, batch 128", "tfnas bench --seed 0"),
    ):
        assert part in text


def test_the_pictures_lie_beside_the_page_and_inside_it(tmp_path: Path):
    page = write_report(report(), tmp_path).read_text(encoding="utf-8")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["index.html", "scatter-naswot-test_cifar10_200ep.png", "throughput.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in files[1:])
    assert page.count("data:image/png;base64,") == 2


def test_the_page_asks_nothing_from_anywhere(tmp_path: Path):
    path = write_report(report(), tmp_path)
    for _, attributes in read(path).elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "http://" not in path.read_text(encoding="utf-8")
    assert "https://" not in path.read_text(encoding="utf-8")


def test_every_head_of_the_agreement_table_explains_itself(tmp_path: Path):
    page = read(write_report(report(cost=(), unscored={}, provenance={}), tmp_path))
    assert len(page.of("th")) == 11
    assert all(len(head["title"]) > 20 for head in page.of("th"))


def test_hovering_has_the_position_label_and_values_of_each_point(tmp_path: Path):
    data = json.loads(read(write_report(report(), tmp_path)).scripts[0])
    (plot,) = data["plots"]
    assert data["labels"] == [[f"cell {i}" for i in range(6)]]
    assert plot["scores"] == [3, 1, None, 1.5, 9, 2.6]
    assert plot["truths"] == [80, 70, 90, 85, 92, 75]
    assert plot["x"][2] is None
    assert plot["x"][1] < plot["x"][3] < plot["x"][0] < plot["x"][4]


def test_rankings_of_the_same_architectures_share_their_labels(tmp_path: Path):
    both = report(ranking("naswot"), ranking("params"), ranking("other", labels=list("abcdef")))
    data = json.loads(read(write_report(both, tmp_path)).scripts[0])
    assert [plot["labels"] for plot in data["plots"]] == [0, 0, 1]
    assert len(data["labels"]) == 2


def test_text_of_the_user_cannot_become_markup_or_script(tmp_path: Path):
    hostile = report(
        ranking(HOSTILE, HOSTILE, [HOSTILE] * 6),
        title=HOSTILE,
        summary=HOSTILE,
        unscored={HOSTILE: {HOSTILE: 1}},
        cost=(Cost(HOSTILE, 6, 12.0, HOSTILE),),
        provenance={HOSTILE: HOSTILE},
    )
    page, plain = read(write_report(hostile, tmp_path / "a")), read(write_report(report(), tmp_path / "b"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["labels"] == [[HOSTILE] * 6]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_dollar_signs_are_only_text(tmp_path: Path):
    path = write_report(report(title="$title costs $5", summary="$sections"), tmp_path)
    assert "$title costs $5" in read(path).texts


def test_names_that_would_share_a_file_get_one_each(tmp_path: Path):
    write_report(report(ranking("a/b"), ranking("a b"), ranking("A:B")), tmp_path)
    assert len(list(tmp_path.glob("scatter-*.png"))) == 3
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in tmp_path.iterdir())


def test_a_report_without_rankings_costs_or_failures_is_a_page(tmp_path: Path):
    empty = Report("Nothing", "Nothing yet.", (), {}, (), {})
    text = " ".join(read(write_report(empty, tmp_path)).texts)
    assert "Every architecture has a score." in text
    assert "What it cost" not in text


def test_a_cost_without_a_time_has_no_speed():
    assert Cost("naswot", 90, 60.0, "").per_minute == 90
    assert np.isnan(Cost("naswot", 90, 0.0, "").per_minute)


def test_a_report_written_again_replaces_the_old_one(tmp_path: Path):
    write_report(report(title="old"), tmp_path)
    path = write_report(report(title="new"), tmp_path)
    assert "new" in read(path).texts
    assert "old" not in read(path).texts


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write the report to .*taken: \w[^\n]*$"):
        write_report(report(), tmp_path / "taken")


def test_a_failed_write_leaves_no_half_file(tmp_path: Path):
    (tmp_path / "index.html").mkdir()
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(report(), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_one_line_and_keeps_the_old_page(tmp_path: Path):
    old = write_report(report(title="old"), tmp_path).read_bytes()
    program = """
        import resource, sys
        from pathlib import Path
        from reports.page import Report, write_report
        from spaces.errors import InputError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_report(Report("new", "", (), {}, (), {}), Path(sys.argv[1]))
        except InputError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("cannot write the report to")
    assert result.stdout.count("\n") == 1
    assert (tmp_path / "index.html").read_bytes() == old
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
