"""The study of hierarchical cells and evolution, as small as it runs."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import load_dataset
from harness.progress import NullProgress
from harness.store import Store
from harness.training.recipes import load_recipe
from reports.studies import hierarchical
from reports.studies.base import StudySetting, load_study
from reports.studies.hierarchical import moving_mean
from spaces.errors import InputError
from spaces.registry import load_space

STEPS, SEEDS = 2, 1


@contextmanager
def no_bars(title, total):
    yield NullProgress()


def run(folder: Path, space: str = "hierarchical"):
    images = folder / "images.npz"
    random = np.random.default_rng(0)
    splits = {"train": 130, "test": 8}
    np.savez(
        images,
        **{f"{split}_images": random.integers(0, 256, (n, 1, 8, 8), np.uint8) for split, n in splits.items()},
        **{f"{split}_labels": np.arange(n) % 2 for split, n in splits.items()},
    )
    dataset = load_dataset(f"npz:{images}")
    loaded = load_space(space)
    sizes = {"input_channels": dataset.channels, "image_size": 8, "classes": 2, "channels": 2, "cells": 1}
    config = loaded.configure(**sizes)
    with Store(folder / "store.sqlite") as store:
        setting = StudySetting(
            space=loaded,
            config=config,
            training_config=config,
            recipe=load_recipe("tiny", batch_size=32, train_images=32),
            dataset=dataset,
            dataset_name=f"npz:{images}",
            data_dir=folder,
            image_size=None,
            device="cpu",
            backend="torch",
            processes=1,
            scorers=("params",),
            batch_size=32,
            seed=0,
            store=store,
            truth=None,
            column=None,
            peers=None,
            sample=STEPS,
            runs=SEEDS,
            budget=STEPS,
            command="",
        )
        return load_study("hierarchical").run(setting, no_bars)


def test_every_arm_is_searched_trained_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in {"LONGER": 2, "WIDER": 1, "DEEPER": 1}.items():
        monkeypatch.setattr(hierarchical, name, small)
    findings = run(tmp_path)
    arms = findings.data.groupby(["fitness", "space", "method"])
    assert len(arms) == 8
    assert set(arms.size()) == {STEPS * SEEDS}
    assert (arms.found.sum() == SEEDS).all()
    assert (arms.large_error.count() == 1).all()
    assert all(len(table.rows) == 8 for table in findings.tables)
    names = {figure.name for figure in findings.figures}
    assert {"best-accuracy", "params-params", "hierarchical-by-accuracy", "flat-by-params"} <= names
    assert all(sentence.endswith("cannot be judged here.") for sentence in findings.sentences)


def test_another_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compares hierarchical with flat: give --space hierarchical"):
        run(tmp_path, "nasbench201")


def test_moving_means_leave_out_steps_without_a_value() -> None:
    means = moving_mean(np.array([np.nan, 2.0, np.nan, 4.0, 6.0]), 2)
    np.testing.assert_array_equal(means, [np.nan, 2.0, 2.0, 4.0, 5.0])
