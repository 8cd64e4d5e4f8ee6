"""The user's own images: a folder for each class, or arrays in one .npz file."""

import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from harness.datasets.base import Dataset, Images, assemble, pixel_statistics, split
from harness.datasets.pixels import array_images, decode_square, shorter_side
from spaces.errors import InputError

HELD_OUT = 0.2
SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})


def load_folder(name: str, folder: Path, image_size: int | None) -> Dataset:
    """Load a folder that holds one folder per class, with images at any depth below it.

    Images become RGB squares (32 x 32 by default) when fetched, and a fixed fifth of each class is the test
    split. Raises InputError for fewer than two classes, a class without images or a file that is no image.
    """
    if not folder.is_dir():
        raise InputError(f"{name}: no folder {folder}; expected one folder per class in it")
    classes = class_names(folder)
    if classes and SPLIT_FOLDERS.issuperset(map(str.lower, classes)):
        raise InputError(
            f"{name}: {', '.join(classes)} look like splits, not classes; give the path of one of them, "
            "or imagenet:PATH for train and val"
        )
    if len(classes) < 2:
        raise InputError(
            f"{name}: {folder} holds {len(classes)} class folders; expected one for each of 2 or more"
        )
    files_by_class = [image_files(folder / label) for label in classes]
    for label, files in zip(classes, files_by_class, strict=True):
        if not files:
            raise InputError(f"{name}: class folder {folder / label} holds no image file")
    train, test = split(labelled_files(files_by_class, image_size or 32), HELD_OUT)
    statistics = pixel_statistics(name, train, limit=1000)
    return assemble(name, tuple(classes), train, test, flip=True, statistics=statistics)


def class_names(folder: Path) -> list[str]:
    """Folders of a folder, none of them hidden, in the order of their names."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def labelled_files(files_by_class: Sequence[Sequence[Path]], size: int) -> Images:
    """Image files of every class, in order: the central squares of `size` pixels, read when fetched."""
    labels = np.repeat(np.arange(len(files_by_class), dtype=np.int64), [len(files) for files in files_by_class])
    paths = tuple(path for files in files_by_class for path in files)
    return Images(labels, partial(fetch_files, paths, size))


def image_files(folder: Path) -> list[Path]:
    """List the files whose ending Pillow can read, none of them hidden, in an order that the names fix."""
    endings = {ending for ending, format in Image.registered_extensions().items() if format in Image.OPEN}
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in endings)
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    return [folder / file for file in sorted(visible, key=Path.as_posix) if (folder / file).is_file()]


def fetch_files(paths: tuple[Path, ...], size: int, indices: np.ndarray) -> np.ndarray:
    """The central squares of the image files at the int64 `k` indices: uint8 `k x 3 x size x size`."""
    images = np.empty((len(indices), 3, size, size), np.uint8)
    for position, index in enumerate(indices):
        images[position] = decode_square(paths[index], size, described=str(paths[index]))
    return images


def load_npz(name: str, file: Path, image_size: int | None) -> Dataset:
    """Load a .npz file of `train_labels` and `train_images` or `train_jpeg`, and the same for `test_`.

    Images are uint8 `n x C x H x W`, `n x H x W x C` or `n x H x W`; JPEG files are bytes one after another in
    `train_jpeg` with int64 `n + 1` bounds in `train_offsets`, and decoded when fetched. Without a test part, a
    fixed fifth of each class is held out. Raises InputError for a file or an array that is not as described.
    """
    arrays = _read_arrays(name, file)
    train = _read_part(name, arrays, "train", image_size)
    if train is None:
        raise InputError(f"{name}: expected train_images, or train_jpeg and train_offsets, and train_labels")
    class_count = int(train.labels.max()) + 1
    absent = class_count - len(np.unique(train.labels))
    if class_count < 2 or absent:
        raise InputError(
            f"{name}: train_labels must hold each of the classes 0 to k - 1 and at least 2 of them; "
            f"the highest label is {class_count - 1} and {absent} lower ones are absent"
        )
    given_test = _read_part(name, arrays, "test", image_size)
    if given_test is None:
        train, test = split(train, HELD_OUT)
    else:
        test = given_test
        if test.labels.max() >= class_count:
            raise InputError(
                f"{name}: test_labels go up to {test.labels.max()}, train_labels to {class_count - 1}"
            )
        shapes = [part.fetch(np.zeros(1, np.int64)).shape[1:] for part in (train, test)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{name}: train images are {shapes[0]} and test images {shapes[1]} (C, H, W)")
    classes = tuple(str(label) for label in range(class_count))
    statistics = pixel_statistics(name, train, limit=5000)
    return assemble(name, classes, train, test, flip=True, statistics=statistics)


def _read_arrays(name: str, file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise InputError(f"{name}: no file {file}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    # A single .npy file loads as an array, which is no context manager of named arrays: TypeError.
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{name}: {file} is damaged or no .npz file of plain arrays") from error


def _read_part(name: str, arrays: dict[str, np.ndarray], part: str, image_size: int | None) -> Images | None:
    """Read the split called `part`, or None if the file has no images for it."""
    pixels, jpeg = arrays.get(f"{part}_images"), arrays.get(f"{part}_jpeg")
    if pixels is None and jpeg is None:
        return None
    labels = _required(name, arrays, f"{part}_labels")
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(f"{name}: {part}_labels must be one row of whole numbers from 0")
    labels = labels.astype(np.int64)
    if pixels is not None:
        return _pixel_part(name, pixels, labels, part, image_size)
    assert jpeg is not None
    return _jpeg_part(name, jpeg, _required(name, arrays, f"{part}_offsets"), labels, part, image_size)


def _required(name: str, arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise InputError(f"{name}: {key} is missing; the file holds {', '.join(sorted(arrays))}")
    return arrays[key]


def _pixel_part(name: str, pixels: np.ndarray, labels: np.ndarray, part: str, image_size: int | None) -> Images:
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise InputError(
            f"{name}: {part}_images must be uint8 [n, C, H, W], [n, H, W, C] or [n, H, W], "
            f"not {pixels.dtype} {list(pixels.shape)}"
        )
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    # An image has more pixels along a side than channels, so the shorter of the two axes holds the channels.
    elif pixels.shape[3] < pixels.shape[1]:
        pixels = pixels.transpose(0, 3, 1, 2)
    count, _, height, width = pixels.shape
    if count != len(labels):
        raise InputError(f"{name}: {count} {part}_images but {len(labels)} {part}_labels")
    if image_size is None and height != width:
        raise InputError(
            f"{name}: {part}_images are {height} x {width}; give --image-size to crop and resize them to squares"
        )
    return array_images(pixels, labels, image_size or height)


def _jpeg_part(
    name: str, jpeg: np.ndarray, offsets: np.ndarray, labels: np.ndarray, part: str, image_size: int | None
) -> Images:
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise InputError(f"{name}: {part}_jpeg must be one row of uint8, not {jpeg.dtype} {list(jpeg.shape)}")
    if (
        offsets.shape != (len(labels) + 1,)
        or not np.issubdtype(offsets.dtype, np.integer)
        or offsets[0] < 0
        or offsets[-1] > len(jpeg)
        or (np.diff(offsets) <= 0).any()
    ):
        raise InputError(
            f"{name}: {part}_offsets must be {len(labels) + 1} rising whole numbers from 0 to {len(jpeg)}, "
            f"one more than {part}_labels"
        )
    described = f"{name}: {part}_jpeg"
    size = image_size or shorter_side(_jpeg_file(jpeg, offsets, 0), f"{described} 0")
    return Images(labels, partial(_fetch_jpeg, jpeg, offsets, size, described))


def _jpeg_file(jpeg: np.ndarray, offsets: np.ndarray, index: int) -> BytesIO:
    return BytesIO(jpeg[offsets[index] : offsets[index + 1]].tobytes())


def _fetch_jpeg(
    jpeg: np.ndarray, offsets: np.ndarray, size: int, described: str, indices: np.ndarray
) -> np.ndarray:
    images = np.empty((len(indices), 3, size, size), np.uint8)
    for position, index in enumerate(indices):
        images[position] = decode_square(_jpeg_file(jpeg, offsets, index), size, f"{described} {index}")
    return images
