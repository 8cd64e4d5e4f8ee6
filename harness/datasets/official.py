"""Public data sets in their official on-disk formats, and the embedded default that needs no files."""

import contextlib
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.base import Dataset, Images, assemble, pixel_statistics, split
from harness.datasets.pixels import array_images
from spaces.errors import InputError

# Mean and standard deviation per channel on the scale 0 to 255, as NAS-Bench-201 uses them.
CIFAR10_STATISTICS = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
CIFAR100_STATISTICS = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)
IMAGENET16_STATISTICS = (122.68, 116.66, 104.01), (63.22, 61.26, 65.09)
IMAGENET16_CLASSES = 120
CIFAR10_TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))


def load_digits(image_size: int | None) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits (8 x 8, 16 grey levels), enlarged to 32 x 32 by default."""
    from sklearn.datasets import load_digits as load_sklearn_digits

    digits = load_sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    images = array_images(pixels, digits.target.astype(np.int64), image_size or 32)
    train, test = split(images, held_out=0.25)
    classes = tuple(str(digit) for digit in range(10))
    statistics = pixel_statistics("digits", train, limit=len(train))
    return assemble("digits", classes, train, test, flip=False, statistics=statistics)


@dataclass(frozen=True)
class _BatchFormat:
    """Batch files: `side x side` RGB images, whose labels start at `first_label` and are `label_count` many."""

    labels_key: str
    first_label: int
    label_count: int
    side: int
    advice: str


def load_cifar(name: str, root: Path, download: bool, image_size: int | None) -> Dataset:
    """Load `cifar10` or `cifar100` from the official Python folder under `root`.

    With `download`, torchvision first checks the folder and fetches it if need be. Raises InputError if a file
    is missing or corrupt, or if the download fails.
    """
    if download:
        _download_cifar(name, root)
    advice = f"{name} needs its official Python version in --data-dir {root}; --download fetches it"
    if name == "cifar10":
        folder, train_files, test_files = "cifar-10-batches-py", CIFAR10_TRAIN_FILES, ("test_batch",)
        names_file, names_key, statistics = "batches.meta", "label_names", CIFAR10_STATISTICS
        batch_format = _BatchFormat("labels", 0, 10, 32, advice)
    else:
        folder, train_files, test_files = "cifar-100-python", ("train",), ("test",)
        names_file, names_key, statistics = "meta", "fine_label_names", CIFAR100_STATISTICS
        batch_format = _BatchFormat("fine_labels", 0, 100, 32, advice)
    classes = _read_pickle(root / folder / names_file, advice).get(names_key)
    if not isinstance(classes, list) or len(classes) != batch_format.label_count:
        count = batch_format.label_count
        raise InputError(f"{root / folder / names_file}: no list {names_key!r} of {count} class names; {advice}")
    train, test = (
        _read_split([root / folder / file for file in files], batch_format, batch_format.label_count, image_size)
        for files in (train_files, test_files)
    )
    return assemble(name, tuple(map(str, classes)), train, test, flip=True, statistics=_unit_scale(statistics))


def load_cifar101(root: Path, image_size: int | None) -> Dataset:
    """Load CIFAR-10's training split, with the 2,000 new images of CIFAR-10.1 v6 as its test split.

    They are read from `cifar10.1_v6_data.npy` and `cifar10.1_v6_labels.npy` in `root` (Recht et al., 2018). Raises
    InputError if a file is missing or not as described.
    """
    cifar = load_cifar("cifar10", root, download=False, image_size=image_size)
    advice = f"cifar10.1 needs cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy in --data-dir {root}"
    pixels, labels = (_read_array(root / f"cifar10.1_v6_{part}.npy", advice) for part in ("data", "labels"))
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (32, 32, 3):
        raise InputError(f"cifar10.1: data are {pixels.dtype} {list(pixels.shape)}, not uint8 [n, 32, 32, 3]")
    if labels.shape != pixels.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"cifar10.1: labels are not one whole number for each of {len(pixels)} images")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(cifar.classes):
        raise InputError("cifar10.1: labels are not all from 0 to 9")
    test = array_images(pixels.transpose(0, 3, 1, 2), labels.astype(np.int64), cifar.image_size)
    statistics = cifar.mean, cifar.std
    return assemble("cifar10.1", cifar.classes, cifar.train, test, flip=True, statistics=statistics)


def _read_array(path: Path, advice: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"no file {path}; {advice}") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or no .npy file; {advice}") from error
    if not isinstance(array, np.ndarray) or not array.ndim:
        raise InputError(f"{path} is no .npy file of one array; {advice}")
    return array


def _download_cifar(name: str, root: Path) -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    try:
        # Progress must not mix with results on the standard output.
        with contextlib.redirect_stdout(sys.stderr):
            {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](root, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"--download could not fetch {name} into --data-dir {root}: {error}") from error


def load_imagenet16(root: Path, image_size: int | None) -> Dataset:
    """Load the first 120 classes of ImageNet at 16 x 16 from the batch files in `root`/ImageNet16.

    The files hold labels from 1; here they start at 0. Raises InputError if a file is missing or corrupt.
    """
    advice = (
        "imagenet16-120 needs the official ImageNet 16x16 files train_data_batch_1 to train_data_batch_10 and "
        f"val_data in the folder ImageNet16 in --data-dir {root}"
    )
    folder = root / "ImageNet16"
    train_files = [folder / f"train_data_batch_{number}" for number in range(1, 11)]
    batch_format = _BatchFormat("labels", 1, 1000, 16, advice)
    train, test = (
        _read_split(files, batch_format, IMAGENET16_CLASSES, image_size)
        for files in (train_files, [folder / "val_data"])
    )
    classes = tuple(str(label) for label in range(IMAGENET16_CLASSES))
    statistics = _unit_scale(IMAGENET16_STATISTICS)
    return assemble("imagenet16-120", classes, train, test, flip=True, statistics=statistics)


def _unit_scale(
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = statistics
    return tuple(value / 255 for value in mean), tuple(value / 255 for value in std)


def _read_split(files: list[Path], batch_format: _BatchFormat, class_count: int, image_size: int | None) -> Images:
    """Join batch files into one split of the images in the first `class_count` classes, labelled from 0."""
    batches = [_read_batch(path, batch_format, class_count) for path in files]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if not len(labels):
        raise InputError(f"{files[0]}: no image in the first {class_count} classes; {batch_format.advice}")
    return array_images(pixels, labels, image_size or batch_format.side)


def _read_batch(path: Path, batch_format: _BatchFormat, class_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch file: a dictionary of `data` (uint8 `n x 3 side^2`, channels first) and `n` labels.

    torchvision reads these files only if they are the official ones to the byte; here any file in that format
    will do, such as a part of the data set.
    """
    side, key, advice = batch_format.side, batch_format.labels_key, batch_format.advice
    content = _read_pickle(path, advice)
    data, labels = content.get("data"), content.get(key)
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    first, last = batch_format.first_label, batch_format.first_label + batch_format.label_count - 1
    width = 3 * side * side
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (width,):
        raise InputError(f"{path}: 'data' is not a uint8 array of {width} values an image; {advice}")
    if (
        not isinstance(labels, list)
        or len(labels) != len(data)
        or not all(isinstance(label, int | np.integer) and first <= label <= last for label in labels)
    ):
        raise InputError(
            f"{path}: {key!r} is not one whole number from {first} to {last} "
            f"for each of {len(data)} images; {advice}"
        )
    labels_from_0 = np.array(labels, np.int64) - first
    kept = labels_from_0 < class_count
    return data[kept].reshape(-1, 3, side, side), labels_from_0[kept]


def _read_pickle(path: Path, advice: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"no file {path}; {advice}")
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    # A damaged pickle can fail in almost any way, and each of them means the same to the user.
    except Exception as error:
        raise InputError(f"{path}: damaged or not a batch file ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no dictionary; {advice}")
    return content


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle builtin containers and NumPy arrays only: any other pickle could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the named constructor of arrays; raises UnpicklingError for every other name."""
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        constructors = {
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "_reconstruct": np.empty(0).__reduce__()[0],
            "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
            "scalar": np.int64(0).__reduce__()[0],
        }
        if module.partition(".")[0] == "numpy" and name in constructors:
            return constructors[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed, only arrays are")


def _encode_latin1(text: str, _encoding: str) -> bytes:
    """Stand in for the codec by which Python 3 writes bytes in old pickle protocols: always latin1."""
    return text.encode("latin1")
