"""ImageNet as folders of a training and a validation split, and Tiny-ImageNet-200 as it is published."""

from functools import partial
from pathlib import Path

import numpy as np

from harness.datasets.base import Dataset, Images, assemble, pixel_statistics
from harness.datasets.own import class_names, fetch_files, image_files, labelled_files
from spaces.errors import InputError

IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation a channel that programs for ImageNet use, DARTS's among them."""

IMAGENET_SIZE = 224
TINY_SIZE = 64
TINY_FOLDER = "tiny-imagenet-200"


def load_imagenet(name: str, folder: Path, image_size: int | None) -> Dataset:
    """Load `train` and `val` below a folder, each with a folder for every class; `val` becomes the test split.

    Images are read when fetched: their central square, 224 x 224 by default.

    Raises:
        InputError: a split is missing, holds other classes than the other, or a class without images.
    """
    names = _class_folders(name, folder / "train")
    others = _class_folders(name, folder / "val")
    if names != others:
        different = sorted(set(names) ^ set(others))
        raise InputError(f"{name}: train and val hold different classes, {different[0]} among them")
    train, test = (
        _labelled(
            [image_files(folder / split / label) for label in names], image_size or IMAGENET_SIZE, name, names
        )
        for split in ("train", "val")
    )
    return assemble(name, tuple(names), train, test, flip=True, statistics=IMAGENET_STATISTICS)


def load_tiny_imagenet(root: Path, image_size: int | None) -> Dataset:
    """Load Tiny-ImageNet-200 from `root`/tiny-imagenet-200; the labelled validation images are the test split.

    The official folder names its classes in `wnids.txt`, has training images in `train/WNID/images` and the
    others in `val/images`, with their classes in `val/val_annotations.txt`. Images are 64 x 64.

    Raises:
        InputError: a file is missing or not as described.
    """
    folder, name = root / TINY_FOLDER, TINY_FOLDER
    classes = _lines(folder / "wnids.txt", root)
    train = _labelled(
        [image_files(folder / "train" / wnid / "images") for wnid in classes],
        image_size or TINY_SIZE,
        name,
        classes,
    )
    annotations = folder / "val" / "val_annotations.txt"
    places = {wnid: label for label, wnid in enumerate(classes)}
    paths, labels = [], []
    for number, line in enumerate(_lines(annotations, root), start=1):
        file, *rest = line.split("\t")
        if not rest or rest[0] not in places:
            raise InputError(f"{annotations}, line {number}: no image, tab and class of wnids.txt")
        paths.append(folder / "val" / "images" / file)
        labels.append(places[rest[0]])
    test = Images(np.array(labels, np.int64), partial(fetch_files, tuple(paths), image_size or TINY_SIZE))
    statistics = pixel_statistics(name, train, limit=1000)
    return assemble(name, tuple(classes), train, test, flip=True, statistics=statistics)


def _class_folders(name: str, split: Path) -> list[str]:
    if not split.is_dir():
        raise InputError(f"{name}: no folder {split}; expected train and val, each with one folder per class")
    classes = class_names(split)
    if len(classes) < 2:
        raise InputError(f"{name}: {split} holds {len(classes)} class folders; expected one for each of 2 or more")
    return classes


def _labelled(files_by_class: list[list[Path]], size: int, name: str, classes: list[str]) -> Images:
    """Image files of every class, in order, as a split."""
    for label, files in zip(classes, files_by_class, strict=True):
        if not files:
            raise InputError(f"{name}: class {label} has no image file")
    return labelled_files(files_by_class, size)


def _lines(file: Path, root: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{TINY_FOLDER} needs {file}: unpack the official archive into --data-dir {root}"
        ) from error
    found = [line for line in lines if line]
    if not found:
        raise InputError(f"{file} is empty; unpack the official archive into --data-dir {root} again")
    return found
