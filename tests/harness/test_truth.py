"""Official benchmark files in, compact tables out: values by hand, refusals in one line."""

import bz2
import json
import math
import os
import pickle
import sys
from collections import OrderedDict
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import nas_201_api.api_utils
import nats_bench.api_utils
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.truth import FORMATS, import_truth, load_truth
from harness.truth.suite_zero import nasbench201_architecture
from spaces.errors import InputError

CELLS = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
)
PARAMS = (73_306 + 2 * 28_000, 73_306 + 3 * 243_040, 73_306)
CLASSES = {"cifar10-valid": 10, "cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
EVALUATION_SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
EVALUATION_OFFSET = {"x-valid": 0.25, "ori-test": 0.5, "x-test": 0.75}
SEEDS = (777, 888, 999)


def last_accuracy(cell: int, epochs: int, training_set: str, evaluation_set: str, seed: int) -> float:
    """Different for every trial and evaluation, so that a mixed-up column shows."""
    base = 10.0 * (cell + 1) + epochs / 100 + list(CLASSES).index(training_set)
    return base + EVALUATION_OFFSET[evaluation_set] + SEEDS.index(seed) / 16


def trial(package: ModuleType, cell: int, epochs: int, training_set: str, seed: int) -> Any:
    """One training as the benchmark's own program records it, numpy numbers included."""
    params = np.float64((PARAMS[cell] + 65 * (CLASSES[training_set] - 10)) / 1e6)
    config = {"channel": 16, "num_cells": 5, "arch_str": CELLS[cell], "class_num": CLASSES[training_set]}
    accuracies = OrderedDict((epoch, 50.0 + epoch / 10) for epoch in range(epochs))
    result = package.ResultsCount(
        training_set, None, accuracies, dict(accuracies), params, 15.646592 + cell, config, seed, epochs, [0.014]
    )
    seconds = OrderedDict((epoch, 2.0 + SEEDS.index(seed)) for epoch in range(epochs))
    result.update_train_info(accuracies, accuracies, accuracies, seconds)
    measured = {
        f"{name}@{epoch}": last_accuracy(cell, epochs, training_set, name, seed) - (epochs - 1 - epoch) / 100
        for name in EVALUATION_SETS[training_set]
        for epoch in range(epochs)
    }
    result.update_eval(measured, dict.fromkeys(measured, 1.0), dict.fromkeys(measured, 0.5))
    return result


def results(package: ModuleType, cell: int, epochs: int) -> dict[str, Any]:
    """Saved form of one recipe; the last cell was trained with one seed, the others with three."""
    saved = package.ArchResults(cell, CELLS[cell])
    for training_set in CLASSES:
        for seed in SEEDS[:1] if cell == 2 else SEEDS:
            saved.update(training_set, seed, trial(package, cell, epochs, training_set, seed))
    return saved.state_dict()


def nasbench201_contents() -> dict[str, Any]:
    """What the official file holds, with three cells."""
    package = nas_201_api.api_utils
    return {
        "meta_archs": list(CELLS),
        "total_archs": len(CELLS),
        "arch2infos": {
            cell: {"full": results(package, cell, 200), "less": results(package, cell, 12)}
            for cell in range(len(CELLS))
        },
        "evaluated_indexes": set(range(len(CELLS))),
    }


@pytest.fixture(scope="module")
def nasbench201_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "NAS-Bench-201-v1_1-096897.pth"
    torch.save(nasbench201_contents(), path, _use_new_zipfile_serialization=False)
    return path


def write_nats_pickle(path: Path, contents: object) -> None:
    with bz2.open(path, "wb") as stream:
        pickle.dump(contents, stream, protocol=4)


@pytest.fixture(scope="module")
def nats_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    write_nats_pickle(folder / "meta.pickle.pbz2", {"meta_archs": list(CELLS), "total_archs": len(CELLS)})
    for cell in range(len(CELLS)):
        states = {str(epochs): results(nats_bench.api_utils, cell, epochs) for epochs in (12, 200)}
        write_nats_pickle(folder / f"{cell:06d}.pickle.pbz2", states)
    return folder


class Payload:
    """A pickle that would make a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def refusal(source: Path, out: Path, format: str = "auto") -> str:
    """The one line with which an import is refused; nothing is written."""
    with pytest.raises(InputError) as caught:
        import_truth(source, out, format)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


def imported(source: Path, tmp_path: Path) -> pd.DataFrame:
    out = tmp_path / "truth.parquet"
    import_truth(source, out)
    return pd.read_parquet(out).set_index("architecture")


# --- NAS-Bench-201


def test_nasbench201_accuracies_are_last_epoch_means_over_seeds(nasbench201_file: Path, tmp_path: Path) -> None:
    frame = imported(nasbench201_file, tmp_path)
    assert tuple(frame.index) == CELLS
    # base 10 + 200/100 + 0 (cifar10-valid) + 0.25 (x-valid), seeds add 0, 1/16, 2/16
    assert frame.loc[CELLS[0], "val_cifar10_200ep"] == pytest.approx(12.25 + 1 / 16)
    # base 20 + 12/100 + 1 (cifar10) + 0.5 (ori-test)
    assert frame.loc[CELLS[1], "test_cifar10_12ep"] == pytest.approx(21.62 + 1 / 16)
    # base 10 + 2 + 2 (cifar100) + 0.75 (x-test)
    assert frame.loc[CELLS[0], "test_cifar100_200ep"] == pytest.approx(14.75 + 1 / 16)
    assert frame.loc[CELLS[0], "val_ImageNet16-120_12ep"] == pytest.approx(13.37 + 1 / 16)


def test_nasbench201_cell_with_one_seed_says_so(nasbench201_file: Path, tmp_path: Path) -> None:
    frame = imported(nasbench201_file, tmp_path)
    assert frame["n_test_cifar10_200ep"].tolist() == [3, 3, 1]
    assert frame["n_test_cifar10_200ep"].dtype == "int64"
    # base 30 + 2 + 1 (cifar10) + 0.5 (ori-test), first seed only
    assert frame.loc[CELLS[2], "test_cifar10_200ep"] == pytest.approx(33.5)


def test_nasbench201_times_and_counts_have_plain_units(nasbench201_file: Path, tmp_path: Path) -> None:
    frame = imported(nasbench201_file, tmp_path)
    assert frame.loc[CELLS[0], "train_seconds_cifar10-valid_200ep"] == pytest.approx(200 * 3.0)
    assert frame.loc[CELLS[2], "train_seconds_cifar10_12ep"] == pytest.approx(12 * 2.0)
    assert frame["params_cifar10"].tolist() == list(PARAMS)
    assert frame["params_ImageNet16-120"].tolist() == [count + 65 * 110 for count in PARAMS]
    assert frame["flops_cifar100"].tolist() == [15_646_592, 16_646_592, 17_646_592]
    assert frame["flops_cifar100"].dtype == "int64"


def test_nasbench201_summary_names_the_format_and_has_no_notes_for_a_clean_file(
    nasbench201_file: Path, tmp_path: Path
) -> None:
    summary = import_truth(nasbench201_file, tmp_path / "truth.parquet")
    assert (summary.format, summary.architectures, summary.notes) == ("nasbench201", 3, ())
    assert summary.columns == load_truth(tmp_path / "truth.parquet").numeric_columns()


def test_nasbench201_file_in_the_zip_format_of_newer_torch_reads_the_same(
    nasbench201_file: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.pth"
    torch.save(nasbench201_contents(), newer)
    (tmp_path / "a").mkdir()
    pd.testing.assert_frame_equal(imported(newer, tmp_path), imported(nasbench201_file, tmp_path / "a"))


def test_nasbench201_file_written_with_numpy_1_reads_the_same(nasbench201_file: Path, tmp_path: Path) -> None:
    written = nasbench201_file.read_bytes()
    names = (b"numpy._core.multiarray", b"numpy.core.multiarray")
    old, new = names if names[0] in written else names[::-1]
    other = tmp_path / "other.pth"
    other.write_bytes(written.replace(old, new))
    assert other.read_bytes() != written
    (tmp_path / "a").mkdir()
    pd.testing.assert_frame_equal(imported(other, tmp_path), imported(nasbench201_file, tmp_path / "a"))


def test_data_set_without_the_short_recipe_has_no_column_for_it(tmp_path: Path) -> None:
    # Version 1.0 trained by the 12-epoch recipe on cifar10-valid only.
    contents = nasbench201_contents()
    for cell in contents["arch2infos"].values():
        for training_set in ("cifar10", "cifar100", "ImageNet16-120"):
            for seed in cell["less"]["dataset_seed"].pop(training_set):
                del cell["less"]["all_results"][training_set, seed]
    source = tmp_path / "NAS-Bench-201-v1_0-e61699.pth"
    torch.save(contents, source)
    frame = imported(source, tmp_path)
    assert {"val_cifar10_12ep", "test_cifar10_200ep", "params_cifar100"} <= set(frame.columns)
    assert not {"test_cifar10_12ep", "n_test_cifar10_12ep", "train_seconds_cifar10_12ep"} & set(frame.columns)


def test_foreign_parameter_count_is_flagged_and_the_trusted_seed_is_taken(tmp_path: Path) -> None:
    contents = nasbench201_contents()
    contents["arch2infos"][1]["full"]["all_results"]["cifar10", 777]["params"] = PARAMS[0] / 1e6
    source = tmp_path / "official.pth"
    torch.save(contents, source)
    summary = import_truth(source, tmp_path / "truth.parquet")
    assert len(summary.notes) == 1
    assert summary.notes[0].startswith("1 of 3 architectures store a parameter count that is not their own")
    assert load_truth(tmp_path / "truth.parquet").column("params_cifar10")[CELLS[1]] == PARAMS[1]


def test_pth_that_would_run_code_is_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "official.pth"
    torch.save({**nasbench201_contents(), "extra": Payload(tmp_path / "owned")}, source)
    message = refusal(source, tmp_path / "truth.parquet")
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert not (tmp_path / "owned").exists()


def test_text_in_place_of_results_is_not_followed_to_another_pickle(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "owned"), tmp_path / "inner.pth")
    contents = nasbench201_contents()
    contents["arch2infos"][0]["full"] = str(tmp_path / "inner.pth")
    torch.save(contents, tmp_path / "official.pth")
    assert "is not a NAS-Bench-201 file (TypeError)" in refusal(
        tmp_path / "official.pth", tmp_path / "truth.parquet"
    )
    assert not (tmp_path / "owned").exists()


def test_results_of_another_cell_are_refused(tmp_path: Path) -> None:
    contents = nasbench201_contents()
    contents["meta_archs"].reverse()
    torch.save(contents, tmp_path / "official.pth")
    assert "ValueError" in refusal(tmp_path / "official.pth", tmp_path / "truth.parquet")


@pytest.mark.parametrize("contents", [[1, 2], {"state_dict": {}}, {"meta_archs": [], "arch2infos": {}}])
def test_pth_of_something_else_is_refused(contents: object, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "official.pth")
    assert str(tmp_path / "official.pth") in refusal(tmp_path / "official.pth", tmp_path / "truth.parquet")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 0.999))
def test_truncated_pth_is_refused_wherever_it_ends(part: float, nasbench201_file: Path, tmp_path: Path) -> None:
    written = nasbench201_file.read_bytes()
    source = tmp_path / "cut.pth"
    source.write_bytes(written[: int(part * len(written))])
    assert "is damaged or is not a NAS-Bench-201 file" in refusal(source, tmp_path / "truth.parquet")


@pytest.mark.parametrize("package", ["nas_201_api", "nats_bench"])
def test_missing_package_names_the_extra(
    package: str, nasbench201_file: Path, nats_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    source = nasbench201_file if package == "nas_201_api" else nats_folder
    assert 'pip install "tfnas[truth]"' in refusal(source, tmp_path / "truth.parquet")


# --- NATS-Bench


def test_nats_folder_gives_the_same_table_as_the_same_trainings_in_nasbench201(
    nats_folder: Path, nasbench201_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    summary = import_truth(nats_folder, tmp_path / "a" / "truth.parquet")
    assert (summary.format, summary.notes) == ("nats-bench", ())
    pd.testing.assert_frame_equal(imported(nats_folder, tmp_path), imported(nasbench201_file, tmp_path / "a"))


def test_nats_package_itself_agrees_on_the_small_folder(nats_folder: Path, tmp_path: Path) -> None:
    frame = imported(nats_folder, tmp_path)
    api = nats_bench.create(str(nats_folder), "tss", fast_mode=True, verbose=False)
    for index, architecture in enumerate(CELLS):
        for epochs in ("12", "200"):
            half = api.get_more_info(index, "cifar10-valid", hp=epochs, is_random=False)
            whole = api.get_more_info(index, "cifar10", hp=epochs, is_random=False)
            row = frame.loc[architecture]
            assert row[f"val_cifar10_{epochs}ep"] == pytest.approx(half["valid-accuracy"])
            assert row[f"test_cifar10_{epochs}ep"] == pytest.approx(whole["test-accuracy"])
            assert row[f"train_seconds_cifar10_{epochs}ep"] == pytest.approx(whole["train-all-time"])
        assert frame.loc[architecture, "params_cifar10"] == pytest.approx(
            api.get_cost_info(index, "cifar10", hp="200")["params"] * 1e6
        )


def test_nats_folder_with_missing_files_keeps_the_rest_and_says_how_many(
    nats_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    folder.mkdir()
    (folder / "meta.pickle.pbz2").write_bytes((nats_folder / "meta.pickle.pbz2").read_bytes())
    (folder / "1.pickle.pbz2").write_bytes((nats_folder / "000001.pickle.pbz2").read_bytes())
    summary = import_truth(folder, tmp_path / "truth.parquet")
    assert summary.architectures == 1
    assert summary.notes == ("2 of 3 architectures have no file in the folder",)


def test_nats_pickle_that_would_run_code_is_refused_by_name(nats_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad-simple"
    folder.mkdir()
    (folder / "meta.pickle.pbz2").write_bytes((nats_folder / "meta.pickle.pbz2").read_bytes())
    write_nats_pickle(folder / "000000.pickle.pbz2", {"12": Payload(tmp_path / "owned")})
    assert f"{os.mkdir.__module__}.mkdir" in refusal(folder, tmp_path / "truth.parquet")
    assert not (tmp_path / "owned").exists()


def test_damaged_nats_record_is_named(nats_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad-simple"
    folder.mkdir()
    (folder / "meta.pickle.pbz2").write_bytes((nats_folder / "meta.pickle.pbz2").read_bytes())
    (folder / "000002.pickle.pbz2").write_bytes((nats_folder / "000002.pickle.pbz2").read_bytes()[:500])
    assert "000002.pickle.pbz2 is damaged" in refusal(folder, tmp_path / "truth.parquet")


def test_size_search_space_of_nats_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "NATS-sss-v1_0-50262-simple"
    folder.mkdir()
    write_nats_pickle(folder / "meta.pickle.pbz2", {"meta_archs": ["8:8:8:8:8", "64:64:64:64:64"]})
    assert "not of the topology search space" in refusal(folder, tmp_path / "truth.parquet")


def test_folder_without_the_nats_list_says_what_is_expected(tmp_path: Path) -> None:
    folder = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    assert "expected meta.pickle.pbz2 in it" in refusal(folder, tmp_path / "truth.parquet")


# --- NAS-Bench-Suite-Zero

RELEASED = {
    # key of the released file: the official string, validation accuracy, parameters and FLOPs in millions
    "(0, 2, 3, 2, 3, 1)": (
        "|skip_connect~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_1x1~1|none~2|",
        (86.06, 0.615386, 88.307392),
    ),
    "(4, 0, 4, 1, 2, 0)": (
        "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|",
        (83.62, 0.316346, 46.343872),
    ),
    "(1, 0, 2, 2, 2, 1)": (
        "|none~0|+|skip_connect~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|none~2|",
        (88.26, 0.802426, 115.402432),
    ),
}


def released_suite_zero() -> dict[str, Any]:
    """The form of the released zc_nasbench201.json, with values that stand in it."""
    entries = {
        key: {
            "idx": "534",
            "arch": key,
            "flops": {"score": flops, "time": 0.5},
            "val_accuracy": accuracy,
            "params": {"score": params, "time": 0.25},
        }
        for key, (_, (accuracy, params, flops)) in RELEASED.items()
    }
    return {"cifar10": entries}


def write_json(path: Path, contents: object) -> Path:
    path.write_text(json.dumps(contents))
    return path


def test_suite_zero_columns_are_accuracy_scores_and_seconds(tmp_path: Path) -> None:
    frame = imported(write_json(tmp_path / "zc_nasbench201.json", released_suite_zero()), tmp_path)
    assert set(frame.columns) == {
        "val_cifar10", "flops_cifar10", "flops_seconds_cifar10", "params_cifar10", "params_seconds_cifar10",
    }  # fmt: skip
    for architecture, (accuracy, params, flops) in RELEASED.values():
        row = frame.loc[architecture]
        assert (row["val_cifar10"], row["params_cifar10"], row["flops_cifar10"]) == (accuracy, params, flops)
        assert (row["flops_seconds_cifar10"], row["params_seconds_cifar10"]) == (0.5, 0.25)


def test_released_suite_zero_keys_mean_the_cells_of_the_real_table(real_data: Path, tmp_path: Path) -> None:
    frame = imported(write_json(tmp_path / "zc_nasbench201.json", released_suite_zero()), tmp_path)
    real = load_truth(real_data / "nasbench201_accuracy.parquet").column("val_cifar10_200ep")
    for architecture, accuracy in frame["val_cifar10"].items():
        assert real[architecture] == pytest.approx(accuracy, abs=0.01)


def test_suite_zero_coding_reaches_each_real_cell_once(real_data: Path) -> None:
    real = load_truth(real_data / "nasbench201_accuracy.parquet").frame["architecture"]
    converted = [nasbench201_architecture(str(numbers)) for numbers in product(range(5), repeat=6)]
    assert sorted(converted) == sorted(real)


def test_peer_scores_in_the_real_data_survive_the_way_through_a_suite_zero_file(
    real_data: Path, tmp_path: Path
) -> None:
    peer = pd.read_parquet(real_data / "nasbench201_peer_scores.parquet")
    numbers = {nasbench201_architecture(str(n)): str(n) for n in product(range(5), repeat=6)}
    contents = {
        dataset: {
            numbers[row.architecture]: {"val_accuracy": row.val_accuracy, "synflow": row.synflow}
            for row in rows.itertuples()
        }
        for dataset, rows in peer.groupby("dataset")
    }
    frame = imported(write_json(tmp_path / "zc_nasbench201.json", {"nasbench201": contents}), tmp_path)
    for dataset in ("cifar10", "ImageNet16-120"):
        expected = peer[peer["dataset"] == dataset].set_index("architecture")
        found = frame.loc[expected.index]
        assert found[f"val_{dataset}"].tolist() == expected["val_accuracy"].tolist()
        assert found[f"synflow_{dataset}"].tolist() == expected["synflow"].tolist()


@pytest.mark.parametrize(
    ("contents", "key"),
    [
        ({"class_scene": {"(1, 0, 0, 2, 1, 0)": {"val_accuracy": 34.9}}}, "(1, 0, 0, 2, 1, 0)"),
        ({"transbench101_micro": {"cifar10": {"(1, 0, 0, 2, 1, 0)": {"snip": 3.5}}}}, "(1, 0, 0, 2, 1, 0)"),
        ({"cifar10": {"(0, 1, 1, 1, 1, 0, 1)": {"val_accuracy": 92.6}}}, "(0, 1, 1, 1, 1, 0, 1)"),
        ({"nasbench301": {"cifar10": {"[[(0, 4), (1, 3)]]": {"snip": 381.2}}}}, "[[(0, 4), (1, 3)]]"),
    ],
)
def test_keys_of_other_spaces_stay_as_they_are(contents: object, key: str, tmp_path: Path) -> None:
    assert imported(write_json(tmp_path / "zc.json", contents), tmp_path).index.tolist() == [key]


def test_failed_suite_zero_scores_are_missing_and_counted(tmp_path: Path) -> None:
    contents = released_suite_zero()
    key = next(iter(RELEASED))
    contents["cifar10"][key]["params"]["score"] = -1e8
    source = write_json(tmp_path / "zc_nasbench201.json", contents)
    summary = import_truth(source, tmp_path / "truth.parquet")
    assert "1 scores are marked as failed and stand as missing" in summary.notes
    assert math.isnan(load_truth(tmp_path / "truth.parquet").column("params_cifar10")[RELEASED[key][0]])


def test_architecture_missing_from_one_data_set_has_gaps(tmp_path: Path) -> None:
    keys = list(RELEASED)
    contents = {
        "cifar10": {keys[0]: {"val_accuracy": 86.0}},
        "cifar100": {keys[0]: {"val_accuracy": 60.0}, keys[1]: {"val_accuracy": 50.0}},
    }
    frame = imported(write_json(tmp_path / "zc_nasbench201.json", contents), tmp_path)
    assert math.isnan(frame.loc[RELEASED[keys[1]][0], "val_cifar10"])
    assert frame.loc[RELEASED[keys[1]][0], "val_cifar100"] == 50.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2]",
        "{}",
        '{"cifar10": 3}',
        '{"cifar10": {"(0, 0, 0, 0, 0, 0)": 3}}',
        '{"cifar10": {"(0, 0, 0, 0, 0, 0)": {"val_accuracy": 3}, "[0, 0, 0, 0, 0, 0]": {"val_accuracy": 3}}}',
    ],
)
def test_json_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "zc.json").write_text(text)
    assert str(tmp_path / "zc.json") in refusal(tmp_path / "zc.json", tmp_path / "truth.parquet")


# --- Tables


def test_real_table_loads_with_its_published_optimum(real_data: Path) -> None:
    table = load_truth(real_data / "nasbench201_accuracy.parquet")
    accuracies = table.column("test_cifar10_200ep")
    assert len(accuracies) == 15_625
    assert accuracies.max() == pytest.approx(94.37, abs=0.005)
    assert accuracies.dtype == "float64"
    assert accuracies.index.name == "architecture"


def test_missing_column_lists_the_columns_there_are(real_data: Path) -> None:
    table = load_truth(real_data / "nasbench201_accuracy.parquet")
    with pytest.raises(InputError, match=r"no numeric column 'accuracy'; it has .*test_cifar10_200ep"):
        table.column("accuracy")


def test_table_with_repeated_architectures_says_how_many(real_data: Path) -> None:
    with pytest.raises(InputError, match="repeats 491 of its 982 architectures"):
        load_truth(real_data / "nasbench201_peer_scores.parquet")


@pytest.mark.parametrize("name", ["architecture", "arch", "arch_str", "genotype", "network"])
def test_usual_names_of_the_architecture_column_are_accepted(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"accuracy,{name}\n90.5,resnet18\n91.5,vgg16\n")
    assert load_truth(tmp_path / "t.csv").column("accuracy").to_dict() == {"resnet18": 90.5, "vgg16": 91.5}


def test_table_import_keeps_numbers_and_names_what_it_drops(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arch,accuracy,params,author,pretrained\na,90.5,3,me,True\nb,,4,you,False\n")
    summary = import_truth(tmp_path / "t.csv", tmp_path / "new" / "truth.parquet")
    assert summary.columns == ("accuracy", "params")
    assert summary.notes == ("left out, not numeric: author, pretrained",)
    frame = pd.read_parquet(tmp_path / "new" / "truth.parquet")
    assert frame["params"].dtype == "int64"
    assert frame["accuracy"].dtype == "float64"
    assert frame["accuracy"].isna().tolist() == [False, True]


def test_single_precision_accuracies_become_double(tmp_path: Path) -> None:
    frame = pd.DataFrame({"network": ["a"], "accuracy": np.array([90.5], np.float32)})
    frame.to_parquet(tmp_path / "t.parquet")
    assert imported_dtype(tmp_path, "accuracy") == "float64"


def imported_dtype(tmp_path: Path, column: str) -> str:
    import_truth(tmp_path / "t.parquet", tmp_path / "truth.parquet")
    return str(pd.read_parquet(tmp_path / "truth.parquet")[column].dtype)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(
        st.text("|~+_abc0123", min_size=3, max_size=12).map(lambda text: f"|{text}|"),
        st.floats(-1e6, 1e6) | st.just(math.nan),
        min_size=1,
        max_size=8,
    )
)
def test_import_of_a_table_keeps_every_value(values: dict[str, float], tmp_path: Path) -> None:
    pd.DataFrame({"architecture": values.keys(), "accuracy": values.values()}).to_parquet(tmp_path / "t.parquet")
    import_truth(tmp_path / "t.parquet", tmp_path / "truth.parquet")
    found = load_truth(tmp_path / "truth.parquet").column("accuracy")
    np.testing.assert_array_equal(found[list(values)], list(values.values()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy\n90\n", "has no architecture column; expected one named architecture, arch"),
        ("architecture,accuracy\n3,90\n4,91\n", "holds numbers; architectures are text"),
        ("architecture,accuracy\na,90\n,91\n", "is empty in 1 of 2 rows"),
        ("architecture,accuracy\na,90\na,91\nb,92\n", "repeats 1 of its 3 architectures"),
        ("architecture,author\na,me\n", "has no numeric column"),
        ("", "cannot read"),
    ],
)
def test_unusable_table_says_why(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert expected in refusal(tmp_path / "t.csv", tmp_path / "truth.parquet")


def test_damaged_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    assert "cannot read" in refusal(tmp_path / "t.parquet", tmp_path / "truth.parquet")


@pytest.mark.parametrize("name", ["missing.parquet", "missing.csv"])
def test_missing_file_says_what_is_expected_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no file at .*{name}; expected a Parquet or CSV table"):
        load_truth(tmp_path / name)


# --- Import


def test_failed_import_leaves_the_earlier_table_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("network,accuracy\na,1\n")
    (tmp_path / "bad.csv").write_text("network,accuracy\na,1\na,2\n")
    out = tmp_path / "out" / "truth.parquet"
    import_truth(tmp_path / "good.csv", out)
    before = out.read_bytes()
    with pytest.raises(InputError):
        import_truth(tmp_path / "bad.csv", out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["truth.parquet"]


def test_missing_source_lists_what_can_be_imported(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nothing", tmp_path / "truth.parquet")
    assert all(description in message for description in FORMATS.values())


@pytest.mark.parametrize("name", ["notes.txt", "folder"])
def test_unclear_format_lists_the_allowed_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("")
    message = refusal(tmp_path / name, tmp_path / "truth.parquet")
    assert "nasbench201, nats-bench, suite-zero, table" in message


def test_unknown_format_lists_the_allowed_ones(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("network,accuracy\na,1\n")
    assert "allowed: auto, nasbench201" in refusal(tmp_path / "t.csv", tmp_path / "truth.parquet", "excel")


@pytest.mark.parametrize("format", FORMATS)
def test_folder_given_for_another_format_is_refused(format: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refusal(tmp_path / "folder", tmp_path / "truth.parquet", format)


def test_out_must_be_a_parquet_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("network,accuracy\na,1\n")
    assert "must end in .parquet" in refusal(tmp_path / "t.csv", tmp_path / "out.csv")
    import_truth(tmp_path / "t.csv", tmp_path / "t.parquet")
    with pytest.raises(InputError, match="differ from the source"):
        import_truth(tmp_path / "t.parquet", tmp_path / "t.parquet")


def test_out_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("network,accuracy\na,1\n")
    with pytest.raises(InputError, match="cannot write"):
        import_truth(tmp_path / "t.csv", tmp_path / "t.csv" / "truth.parquet")
