import sqlite3
from pathlib import Path

import numpy as np
import pytest
from test_cli import TINY, tfnas

from harness.scorers.base import scorer_names
from spaces.nasbench201 import NASBench201

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that whatever a refused command leaves is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*arguments: object, stdin: str = "") -> str:
    """The one line that a command says before it ends with code 2; it has left no file behind."""
    before = sorted(Path().rglob("*"))
    outcome = tfnas(*arguments, stdin=stdin)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("tfnas: ")
    assert outcome.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return outcome.err.removeprefix("tfnas: ").rstrip()


def usage(*arguments: object) -> str:
    """The last line of what the parser of the command line says before it ends with code 2."""
    before = sorted(Path().rglob("*"))
    outcome = tfnas(*arguments)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert sorted(Path().rglob("*")) == before
    return outcome.err.splitlines()[-1]


# -- names and numbers


@pytest.mark.parametrize("command", ["score", "train", "bench"])
def test_an_unknown_space_is_refused_with_those_that_exist(command: str) -> None:
    assert refusal(command, "--sample", 2, *TINY, "--space", "darts201").startswith(
        "unknown space 'darts201'; allowed: darts, "
    )


@pytest.mark.parametrize("command", ["score", "bench"])
def test_an_unknown_scorer_is_refused_with_those_that_exist(command: str) -> None:
    scorers = ("--scorer", "naswot", "--scorer", "naswto")
    message = refusal(command, "--sample", 2, *TINY, *scorers)
    assert message == f"unknown scorer 'naswto'; allowed: {', '.join(scorer_names())}"


@pytest.mark.parametrize("command", ["score", "train", "bench"])
def test_an_unknown_data_set_is_refused_with_those_that_exist(command: str) -> None:
    message = refusal(command, "--sample", 2, *TINY, "--dataset", "cifar")
    assert "'cifar'" in message
    assert "digits, cifar10, cifar100" in message


@pytest.mark.parametrize("command", ["score", "train", "bench"])
def test_an_unknown_device_is_refused_with_those_that_exist(command: str) -> None:
    message = refusal(command, "--sample", 2, *TINY, "--device", "tpu")
    assert message == "unknown device 'tpu'; allowed: cpu, cuda, auto"


@pytest.mark.parametrize("command", ["train", "bench"])
def test_an_unknown_recipe_is_refused_with_those_that_exist(command: str) -> None:
    message = refusal(command, "--sample", 2, *TINY, "--recipe", "medium")
    allowed = "nasbench201-200, nasbench201-12, darts-cifar, sharpdarts-cifar, darts-imagenet, small, tiny"
    assert message == f"unknown recipe 'medium'; allowed: {allowed}"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch-size", 1, "--batch-size must be at least 2"),
        ("--batch-size", 5000, "--batch-size is 5000, but digits has only 1347 training images"),
        ("--image-size", 0, "--image-size must be at least 1 pixel, not 0"),
        ("--image-size", 10, "image_size must be a multiple of 4 for nasbench201, not 10"),
        ("--channels", 0, "channels must be at least 1, not 0"),
        ("--cells", -1, "cells must be at least 1, not -1"),
        ("--sample", 0, "--sample must be at least 1, not 0"),
        ("--sample", 15626, "--sample 15626 is more than the 15625 architectures of nasbench201"),
        ("--channels", 10**9, "GiB are free: give a smaller batch, image size or network"),
    ],
)
@pytest.mark.parametrize("command", ["score", "bench"])
def test_a_number_out_of_range_is_refused_with_the_range(
    command: str, option: str, value: int, message: str
) -> None:
    assert message in refusal(command, "--sample", 2, *TINY, option, value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", -1),
        ("--seed", 2**63),
        ("--processes", 0),
        ("--chunk", 0),
        ("--sample", "many"),
        ("--batch-size", "1.5"),
    ],
)
def test_a_value_that_does_not_parse_names_its_option(option: str, value: object) -> None:
    assert f"'{option}'" in usage("score", "--sample", 2, *TINY, option, value)


def test_an_unknown_command_or_option_is_named() -> None:
    assert "'scroe'" in usage("scroe")
    assert "--sampel" in usage("score", "--sampel", 3)


@pytest.mark.parametrize("options", [(), ("--sample", 2, "--all"), ("--all", "--architectures", "-")])
@pytest.mark.parametrize("command", ["score", "train"])
def test_exactly_one_choice_of_architectures_is_asked_for(command: str, options: tuple[object, ...]) -> None:
    message = refusal(command, *TINY, *options)
    assert message == "give exactly one of --sample N, --all and --architectures FILE"


# -- architectures


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL.replace("skip_connect", "skip"), "unknown operation 'skip' on edge 0->3"),
        (CELL.replace("skip_connect", "skip"), "none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"),
        (CELL.rpartition("+")[0], "has 2 nodes separated by '+'; a cell has 3"),
        (CELL.replace("~2", "~1"), "into node 3 of"),
        (CELL.replace("|nor_conv_3x3~2|", "|"), "node 3 of architecture"),
        ("12", "architecture '12' has 1 nodes"),
    ],
)
def test_a_malformed_architecture_is_refused_with_its_line_and_the_part_that_is_wrong(
    workplace: Path, text: str, message: str
) -> None:
    (workplace / "cells.txt").write_text(f"# mine\n{CELL}\n{text}\n")
    found = refusal("score", *TINY, "--architectures", "cells.txt")
    assert found.startswith("--architectures cells.txt, line 3: ")
    assert message in found
    assert "line 1" in refusal("score", *TINY, "--architectures", "-", stdin=text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no architecture; expected one a line"),
        (b"# nothing yet\n\n", "holds no architecture; expected one a line"),
        (b"\xff\xfe\x00", "is not text in UTF-8: invalid start byte"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_list_without_architectures_is_refused(workplace: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (workplace / "cells.txt").write_bytes(content)
    assert refusal("score", *TINY, "--architectures", "cells.txt") == f"--architectures cells.txt {message}"


def test_a_name_that_torchvision_lacks_is_refused_with_close_ones(workplace: Path) -> None:
    save_images(workplace / "mine.npz", channels=3)
    images = ("--dataset", "npz:mine.npz", "--batch-size", 8)
    message = refusal("score", "--space", "torchvision", *images, "--architectures", "-", stdin="resnet81")
    assert "space torchvision has no network 'resnet81'; close names of" in message
    assert "resnet18" in message


# -- images


def save_images(path: Path, channels: int, distinct: int = 24) -> None:
    images = np.random.default_rng(0).integers(0, 256, (distinct, channels, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=np.resize(images, (24, channels, 8, 8)), train_labels=np.arange(24) % 2)


def test_repeated_images_in_the_batch_are_counted_and_refused(workplace: Path) -> None:
    save_images(workplace / "twice.npz", channels=3, distinct=12)
    message = refusal("score", "--sample", 2, *TINY, "--dataset", "npz:twice.npz")
    assert "of the 16 images drawn from npz:twice.npz with --seed 0 repeat another one" in message


def test_grey_images_are_refused_for_networks_that_take_colours() -> None:
    message = refusal("score", "--space", "torchvision", "--sample", 2)
    assert message == "these networks take images of 3 channels; the data set has 1"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("npz:none.npz", "no file none.npz"),
        ("npz:notes.npz", "notes.npz is damaged or no .npz file of plain arrays"),
        ("folder:none", "no folder none; expected one folder per class in it"),
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("imagenet16-120", "ImageNet16"),
    ],
)
def test_a_data_set_that_is_not_there_says_what_is_expected_where(
    workplace: Path, dataset: str, message: str
) -> None:
    (workplace / "notes.npz").write_text("not images")
    assert message in refusal("score", "--sample", 2, *TINY, "--dataset", dataset)


# -- networks of one's own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:", "must read python:MODULE:FACTORY"),
        ("python:module", "must read python:MODULE:FACTORY"),
        ("python:no_such_module:networks", "cannot import module 'no_such_module'"),
        ("python:refused_networks:nothing", "module 'refused_networks' has no 'nothing'"),
        ("python:refused_networks:number", "the factory returned int; expected a mapping"),
        ("python:refused_networks:empty", "the factory returned dict; expected a mapping"),
        ("python:refused_networks:texts", "the factory returned dict; expected a mapping"),
    ],
)
def test_a_factory_that_cannot_be_used_says_why(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (workplace / "refused_networks.py").write_text(
        "def number(): return 3\ndef empty(): return {}\ndef texts(): return {'a': 'b'}\n"
    )
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert message in refusal("score", "--space", name, "--all")


def test_a_setting_that_networks_of_ones_own_lack_is_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "set_networks.py").write_text("from torch import nn\nnetworks = {'a': nn.ReLU}\n")
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    space = ("--space", "python:set_networks:networks")
    assert "has no setting 'channels'" in refusal("score", *space, "--all", "--channels", 4)
    assert "--sample 2 is more than the 1" in refusal("score", *space, "--sample", 2)


# -- stores

SCORE = ("score", "--sample", 2, *TINY)


def make_store(path: str) -> None:
    outcome = tfnas(*SCORE, "--store", path)
    assert outcome.code == 0, outcome.err


def test_a_store_that_is_not_sqlite_is_refused_by_every_command(workplace: Path) -> None:
    (workplace / "notes.txt").write_text("These are my notes.\n" * 100)
    expected = "--store notes.txt: the file is not a SQLite database"
    truth = ("--truth", "trained")
    for command in (SCORE, ("correlate", *truth), ("report", *truth), ("export",), ("train", "--sample", 1)):
        assert refusal(*command, "--store", "notes.txt") == expected


def test_a_store_of_another_version_is_refused_and_left_alone(workplace: Path) -> None:
    make_store("s.sqlite")
    other = sqlite3.connect("s.sqlite")
    other.execute("PRAGMA user_version = 7")
    other.close()
    before = (workplace / "s.sqlite").read_bytes()
    for command in (SCORE, ("export",)):
        assert "has format 7; this version of tfnas reads format" in refusal(*command, "--store", "s.sqlite")
    assert (workplace / "s.sqlite").read_bytes() == before


def test_a_store_that_is_not_there_is_not_made_by_a_command_that_reads() -> None:
    for command in ("correlate", "report", "export"):
        assert refusal(command, "--store", "s.sqlite") == (
            "--store s.sqlite does not exist; `tfnas score` makes it"
        )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing/s.sqlite", "folder missing does not exist"),
        (".", "the file cannot be opened or its folder cannot be written"),
        ("/proc/s.sqlite", "the file cannot be opened or its folder cannot be written"),
    ],
)
def test_a_place_where_no_store_can_be_is_one_line(place: str, message: str) -> None:
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("needs /proc, where nobody can make a file")
    assert refusal(*SCORE, "--store", place) == f"--store {place}: {message}"


# -- truth, reports and exports


@pytest.fixture
def scored(workplace: Path) -> Path:
    """A store with two scores in the working directory, and a truth table about them."""
    make_store("tfnas.sqlite")
    (workplace / "truth.csv").write_text(
        "architecture,accuracy,early\n" + "".join(f"{cell},90,50\n" for cell in NASBench201())
    )
    return workplace


@pytest.mark.parametrize("command", ["correlate", "report"])
def test_a_truth_that_cannot_be_used_says_why(scored: Path, command: str) -> None:
    (scored / "index.csv").write_text("index,accuracy\n1,90\n")
    truth = ("--truth", "truth.csv")
    for options, message in [
        (("--truth", "none.csv", "--column", "accuracy"), "no file at none.csv"),
        (("--truth", "index.csv", "--column", "accuracy"), "index.csv has no architecture column"),
        (truth, "--truth truth.csv needs --column; it has accuracy, early"),
        ((*truth, "--column", "loss"), "truth.csv has no numeric column 'loss'; it has accuracy, early"),
        ((*truth, "--column", "accuracy", "--baseline", "loss"), "no numeric column 'loss'"),
        ((*truth, "--column", "accuracy", "--unscored", "first"), "'first'; allowed: drop, last"),
        ((*truth, "--column", "accuracy", "--scorer", "synflux"), "unknown scorer 'synflux'"),
        ((*truth, "--column", "accuracy", "--dataset", "cifar10"), "holds no scores of any scorer on cifar10"),
        ((*truth, "--column", "accuracy", "--space", "torchvision"), "in space torchvision"),
        ((*truth, "--column", "accuracy", "--space", "darts201"), "unknown space 'darts201'"),
        (("--truth", "trained"), "holds no trainings in space nasbench201; `tfnas train` makes them"),
        (("--truth", "trained", "--baseline", "early"), "give --truth FILE with it"),
    ]:
        assert message in refusal(command, *options)


def test_bench_refuses_a_truth_that_cannot_be_used_before_it_scores(workplace: Path) -> None:
    (workplace / "truth.csv").write_text(f"architecture,accuracy\n{CELL},90\n")
    bench = ("bench", "--sample", 2, *TINY, "--truth", "truth.csv")
    assert "needs --column; it has accuracy" in refusal(*bench)
    assert "no numeric column 'loss'" in refusal(*bench, "--column", "accuracy", "--baseline", "loss")
    assert "no file at none.csv" in refusal(*bench, "--truth", "none.csv")


def test_a_report_where_a_file_stands_is_refused(scored: Path) -> None:
    truth = ("--truth", "truth.csv", "--column", "accuracy")
    assert "cannot write the report to truth.csv" in refusal("report", *truth, "--out", "truth.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "xlsx"), "unknown --format 'xlsx'; allowed: csv, parquet"),
        (("--format", "parquet"), "--format parquet needs --out FILE"),
        (("--out", "missing/e.csv"), "--out missing/e.csv cannot be written"),
        (("--format", "parquet", "--out", "missing/e.parquet"), "--out missing/e.parquet cannot be written"),
        (("--out", "."), "--out . is not a file"),
        (("--out", "/dev/null"), "--out /dev/null is not a file"),
    ],
)
@pytest.mark.usefixtures("scored")
def test_an_export_that_cannot_be_written_says_why(options: tuple[str, ...], message: str) -> None:
    assert message in refusal("export", *options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.csv", "--out", "t.parquet"), "nothing at none.csv"),
        (("notes.csv", "--out", "t.parquet"), "notes.csv has no architecture column"),
        (("notes.csv", "--out", "t.csv"), "must end in .parquet"),
        (
            ("notes.csv", "--out", "t.parquet", "--format", "excel"),
            "'excel' is unknown; allowed: auto, nasbench201",
        ),
    ],
)
def test_a_table_that_cannot_be_imported_says_why(
    workplace: Path, arguments: tuple[str, ...], message: str
) -> None:
    (workplace / "notes.csv").write_text("notes\nmine\n")
    assert message in refusal("import", *arguments)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def factory():\n    raise OSError('no weights')\n", "failed: OSError: no weights"),
        ("def factory(:\n", "failed: SyntaxError"),
        ("def factory():\n    return {1: object}\n", "the factory returned dict"),
    ],
)
def test_a_factory_that_raises_says_what_it_raised(source, message, tmp_path, monkeypatch, request):
    name = f"raising_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in refusal("score", "--space", f"python:{name}:factory", "--all")
