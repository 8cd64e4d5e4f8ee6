"""The part that score, train and bench begin with: space, data set, network and device of the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.datasets import Dataset
    from spaces.base import AnySpace, NetworkConfig


@dataclass(frozen=True, eq=False)
class Setting:
    """What the options mean; `device` is a torch device type."""

    space: AnySpace
    dataset: Dataset
    config: NetworkConfig
    device: str


EMBEDDED: Mapping[str, str] = {"images": "digits", "text": "text"}
"""The data set that every installation has, by what a space reads."""


def dataset_or_default(dataset: str | None, space: str) -> str:
    """The data set that was asked for, or the embedded one that fits the space."""
    from spaces.registry import load_space

    return dataset or EMBEDDED[load_space(space).reads]


def load_setting(
    space: str,
    dataset: str,
    *,
    data_dir: Path,
    download: bool,
    image_size: int | None,
    device: str,
    channels: int | None,
    cells: int | None,
    hidden: int | None = None,
    stem: str | None = None,
    squeeze_excitation: bool | None = None,
) -> Setting:
    """Load what the options name. Raises `InputError` for the first that is wrong."""
    from harness.datasets import load_dataset
    from harness.machine import resolve_device
    from spaces.errors import InputError
    from spaces.registry import load_space

    loaded = load_space(space)
    target = resolve_device(device).type
    data = load_dataset(dataset, root=data_dir, download=download, image_size=image_size)
    if data.kind != loaded.reads:
        raise InputError(f"space {space} reads {loaded.reads}, but --dataset {dataset} holds {data.kind}")
    settings: dict[str, Any] = {
        "channels": channels,
        "cells": cells,
        "hidden": hidden,
        "stem": stem,
        "squeeze_excitation": squeeze_excitation,
    }
    config = loaded.configure(
        input_channels=data.channels, image_size=data.image_size, classes=len(data.classes), **settings
    )
    return Setting(loaded, data, config, target)
