import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.comparison import (
    compare,
    matching_contexts,
    newest_training,
    table_column,
    table_truth,
    trained_truth,
)
from harness.records import Run, ScoreContext, ScoreRecord, TrainingContext, TrainingRecord
from harness.store import Store
from harness.truth import TruthTable, load_truth
from reports.build import agreements, build_report
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config

SPACE = NASBench201()
CONFIG = NASBench201Config(input_channels=1, image_size=8, classes=10, channels=4, cells=1)
CONTEXT = ScoreContext(
    space="nasbench201",
    scorer="naswot",
    settings=json.dumps({**asdict(CONFIG), "scorer_version": 1}),
    seed=0,
    dataset="digits",
    batch="00ff",
    batch_size=16,
    device="cpu",
    backend="torch",
)
TRAINING = TrainingContext(
    space="nasbench201",
    recipe='{"epochs": 6, "name": "small"}',
    settings="{}",
    seed=0,
    dataset="digits",
    data="00ff",
)
CELLS = [str(cell) for index, cell in enumerate(SPACE) if index % 3000 == 3]
ACCURACIES = [90.5, 10.0, 88.25, 70.0, 91.0, 60.0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """`CELLS` with the scores 0, 1, 2, ..., but the second has none."""
    with Store(tmp_path / "s.sqlite") as store:
        fill(store, CONTEXT)
        yield store


def fill(store: Store, context: ScoreContext) -> int:
    number = store.score_context(context)
    store.ask(number, [(cell, cell) for cell in CELLS])
    records = [ScoreRecord(cell, float(index), None, 0.1) for index, cell in enumerate(CELLS)]
    records[1] = ScoreRecord(CELLS[1], None, "singular kernel", 0.1)
    store.add_scores(number, records)
    return number


def table(folder: Path, cells: list[str] = CELLS, **columns: list[float]) -> TruthTable:
    frame = pd.DataFrame({"architecture": cells, "accuracy": ACCURACIES[: len(cells)], **columns})
    frame.to_csv(folder / "truth.csv", index=False)
    return load_truth(folder / "truth.csv")


def contexts(store: Store) -> list[int]:
    return matching_contexts(store, "nasbench201")


# -- truth tables


def test_scores_stand_beside_their_truth_in_the_order_asked_for(store: Store, tmp_path: Path) -> None:
    backwards = table(tmp_path, CELLS[::-1])
    found, *_ = compare(store, contexts(store), table_truth(backwards, "accuracy", SPACE))
    assert found.labels == tuple(CELLS)
    assert (found.scorer, found.truth) == ("naswot", "accuracy")
    np.testing.assert_array_equal(found.scores, [0, np.nan, 2, 3, 4, 5])
    np.testing.assert_array_equal(found.accuracies, ACCURACIES[::-1])
    assert found.unscored == {"singular kernel": 1}


def test_parameters_and_flops_are_ranked_beside_the_scores(store: Store, tmp_path: Path) -> None:
    truth = table_truth(table(tmp_path), "accuracy", SPACE)
    _, params, flops = compare(store, contexts(store), truth)
    expected = [CONFIG.complexity(SPACE.parse(cell)) for cell in CELLS]
    assert (params.scorer, flops.scorer) == ("params", "flops")
    assert params.scores.tolist() == [complexity.params for complexity in expected]
    assert flops.scores.tolist() == [complexity.flops for complexity in expected]
    assert params.accuracies.tolist() == ACCURACIES
    assert params.context is None


def test_a_size_that_was_scored_is_not_ranked_twice(store: Store, tmp_path: Path) -> None:
    fill(store, replace(CONTEXT, scorer="params"))
    found = compare(store, contexts(store), table_truth(table(tmp_path), "accuracy", SPACE))
    assert [comparison.scorer for comparison in found] == ["naswot", "params", "flops"]


def test_a_setting_that_is_younger_than_the_scores_had_its_default(store: Store, tmp_path: Path) -> None:
    settings = json.loads(CONTEXT.settings)
    older = {name: value for name, value in settings.items() if name != "classes"}
    fill(store, replace(CONTEXT, settings=json.dumps(older), batch="0001"))
    truth = table_truth(table(tmp_path), "accuracy", SPACE)
    found = compare(store, contexts(store)[1:], truth)
    assert found[1].scores.tolist() == [CONFIG.complexity(SPACE.parse(cell)).params for cell in CELLS]


def test_a_baseline_is_a_column_and_what_it_lacks_is_counted(store: Store, tmp_path: Path) -> None:
    truth = table(tmp_path, early=[1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    early = {"early": table_column(truth, "early", SPACE)}
    *_, found = compare(store, contexts(store), table_truth(truth, "accuracy", SPACE), baselines=early)
    assert found.scorer == "early"
    np.testing.assert_array_equal(found.scores, [1, 2, np.nan, 4, 5, 6])
    assert found.unscored == {"no value": 1}


@pytest.mark.parametrize("truth_of_the_last", ["no row", "an empty field"])
def test_missing_architectures_are_counted_and_one_is_named(
    store: Store, tmp_path: Path, truth_of_the_last: str
) -> None:
    if truth_of_the_last == "no row":
        truth, column = table_truth(table(tmp_path, CELLS[:-1]), "accuracy", SPACE), "accuracy"
    else:
        truth, column = table_truth(table(tmp_path, late=[*ACCURACIES[:-1], np.nan]), "late", SPACE), "late"
    with pytest.raises(InputError) as caught:
        compare(store, contexts(store), truth)
    assert str(caught.value) == (
        f"1 of 6 scored architectures are missing from the truth {column}, "
        f"for example {CELLS[-1]}; --drop-missing leaves them out"
    )
    found, params, _ = compare(store, contexts(store), truth, drop_missing=True)
    assert found.labels == params.labels == tuple(CELLS[:-1])
    assert found.accuracies.tolist() == ACCURACIES[:-1]


def test_a_truth_about_other_architectures_is_refused_even_if_missing_ones_may_be_dropped(
    store: Store, tmp_path: Path
) -> None:
    others = table(tmp_path, [str(cell) for index, cell in enumerate(SPACE) if index in (10, 11, 12)])
    with pytest.raises(InputError, match="all 6 scored architectures are missing from the truth accuracy"):
        compare(store, contexts(store), table_truth(others, "accuracy", SPACE), drop_missing=True)


@pytest.mark.parametrize("column", [None, "acuracy"])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, column: str | None) -> None:
    with pytest.raises(InputError, match="accuracy, early"):
        table_truth(table(tmp_path, early=ACCURACIES), column, SPACE)


# -- trainings as truth


def trained(store: Store, cells: list[str], context: TrainingContext = TRAINING) -> int:
    number = store.training_context(context)
    for cell, accuracy in zip(cells, ACCURACIES, strict=False):
        canonical = str(SPACE.canonical(SPACE.parse(cell), "live"))
        store.add_training(number, TrainingRecord(canonical, accuracy - 1, accuracy, 1.0, ()))
    return number


def test_trainings_are_truth_for_every_cell_that_they_stand_for(store: Store) -> None:
    truth = trained_truth(store, trained(store, CELLS), None)
    found, *_ = compare(store, contexts(store), truth)
    assert found.truth == "test_digits_6ep"
    assert found.accuracies.tolist() == ACCURACIES
    same = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    equal = "|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    number = trained(store, [same], replace(TRAINING, seed=1))
    assert trained_truth(store, number, None).lookup(equal) == ACCURACIES[0]


def test_validation_accuracy_is_a_column_too(store: Store) -> None:
    truth = trained_truth(store, trained(store, CELLS), "validation_accuracy")
    found, *_ = compare(store, contexts(store), truth)
    assert found.accuracies.tolist() == [accuracy - 1 for accuracy in ACCURACIES]


def test_cells_that_were_not_trained_are_left_out_without_asking(store: Store) -> None:
    found, *_ = compare(store, contexts(store), trained_truth(store, trained(store, CELLS[:3]), None))
    assert found.labels == tuple(CELLS[:3])


def test_another_column_of_trainings_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="'accuracy' of trainings; allowed: test_accuracy, validation_accuracy"):
        trained_truth(store, trained(store, CELLS), "accuracy")


def test_the_newest_trainings_count(store: Store) -> None:
    trained(store, CELLS)
    newest = trained(store, CELLS, replace(TRAINING, seed=5))
    trained(store, [], replace(TRAINING, space="torchvision"))
    assert newest_training(store, "nasbench201") == newest


def test_a_store_without_trainings_says_what_makes_them(store: Store) -> None:
    with pytest.raises(InputError, match="holds no trainings in space nasbench201; `tfnas train` makes them"):
        newest_training(store, "nasbench201")


# -- which scores


def test_scores_are_chosen_by_space_scorer_and_data_set(store: Store) -> None:
    (digits,) = contexts(store)
    published = fill(store, replace(CONTEXT, scorer="naswot-published"))
    cifar = fill(store, replace(CONTEXT, dataset="cifar10", batch="11ff"))
    assert matching_contexts(store, "nasbench201") == [digits, published, cifar]
    assert matching_contexts(store, "nasbench201", ["naswot"]) == [digits, cifar]
    assert matching_contexts(store, "nasbench201", [], "cifar10") == [cifar]
    assert matching_contexts(store, "nasbench201", ["naswot-published"], "digits") == [published]


def test_nothing_that_matches_is_refused_with_what_was_looked_for(store: Store) -> None:
    with pytest.raises(InputError, match="holds no scores of naswot on cifar10 in space nasbench201"):
        matching_contexts(store, "nasbench201", ["naswot"], "cifar10")


def test_an_unknown_scorer_is_refused_with_those_that_exist(store: Store) -> None:
    with pytest.raises(InputError, match="unknown scorer 'nasswot'; allowed: az_expressivity, "):
        matching_contexts(store, "nasbench201", ["nasswot"])


def test_two_contexts_of_one_scorer_are_told_apart_by_what_differs(store: Store, tmp_path: Path) -> None:
    fill(store, replace(CONTEXT, seed=3))
    fill(store, replace(CONTEXT, scorer="naswot-published"))
    found = compare(store, contexts(store), table_truth(table(tmp_path), "accuracy", SPACE))
    assert [comparison.scorer for comparison in found] == [
        "naswot (seed 0)",
        "naswot (seed 3)",
        "naswot-published",
        "params",
        "flops",
    ]


def test_scores_copied_from_another_scorer_are_counted_beside_the_cost(store: Store, tmp_path: Path) -> None:
    first = store.score_context(CONTEXT)
    second = store.score_context(replace(CONTEXT, scorer="naswot-published"))
    store.ask(second, [(cell, cell) for cell in CELLS])
    store.copy_scores(first, second, CELLS[:4])
    store.add_scores(second, [ScoreRecord(cell, 7.0, None, 0.2) for cell in CELLS[4:]])
    truth = table_truth(table(tmp_path), "accuracy", SPACE)
    original, copy = compare(store, [first, second], truth)[:2]
    assert (original.copied, copy.copied) == ({}, {"naswot": 4})
    (cost,) = build_report("t", [replace(copy, computed=2)], agreements([copy]), command="c").cost
    assert cost.note == "torch on cpu, batch 16, 4 more copied from naswot"


def test_the_cost_is_that_of_all_runs(store: Store, tmp_path: Path) -> None:
    (number,) = contexts(store)
    store.add_score_run(number, Run("tfnas score --sample 4", 4, 2.0))
    store.add_score_run(number, Run("tfnas score --sample 6", 2, 1.5))
    found, *_ = compare(store, [number], table_truth(table(tmp_path), "accuracy", SPACE))
    assert (found.computed, found.seconds) == (6, 3.5)


LOWER_IS_BETTER = """
from harness.scorers.base import Scorer

class Downward(Scorer):
    name = "downward"
    description = "less is better"
    counting = "all"
    higher_is_better = False

    def score(self, candidate, batch, backend):
        raise NotImplementedError
"""


def test_scores_that_are_better_when_lower_are_turned_round(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "downward_scorer.py").write_text(LOWER_IS_BETTER)
    metadata = tmp_path / "downward_scorer-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: downward-scorer\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tfnas.scorers]\ndownward = downward_scorer:Downward\n")
    monkeypatch.syspath_prepend(tmp_path)
    number = fill(store, replace(CONTEXT, scorer="downward"))
    found, *_ = compare(store, [number], table_truth(table(tmp_path), "accuracy", SPACE))
    np.testing.assert_array_equal(found.scores, [0, np.nan, -2, -3, -4, -5])


def test_a_network_that_cannot_take_the_images_has_no_parameters_to_rank_by(tmp_path: Path) -> None:
    settings = json.dumps({"input_channels": 3, "image_size": 32, "classes": 10, "scorer_version": 1})
    context = replace(CONTEXT, space="torchvision", settings=settings)
    (tmp_path / "truth.csv").write_text("architecture,accuracy\nsqueezenet1_1,50\nalexnet,60\n")
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(context)
        store.ask(number, [("squeezenet1_1", "squeezenet1_1"), ("alexnet", "alexnet")])
        store.add_scores(
            number,
            [
                ScoreRecord("squeezenet1_1", 5.0, None, 1.0),
                ScoreRecord("alexnet", None, "network AlexNet failed", 1.0),
            ],
        )
        truth = table_truth(load_truth(tmp_path / "truth.csv"), "accuracy", SPACE)
        _, params, _ = compare(store, [number], truth)
    assert params.scores[0] > 100_000
    assert np.isnan(params.scores[1])
    assert params.unscored == {"no value": 1}
