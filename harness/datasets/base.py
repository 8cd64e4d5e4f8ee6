"""What a data set is: two splits of labelled images, their normalisation, and seeded batches of them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from spaces.base import Reading
from spaces.errors import InputError

# Users' seeds stay below 2**64, so a split or a sample never shares a random stream with a batch.
SEED_LIMIT = 2**64
SPLIT_KEY = SEED_LIMIT
SAMPLE_KEY = SEED_LIMIT + 1
FINGERPRINT_SAMPLE = 64
STATISTICS_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `labels` int64 `n`; `fetch` turns int64 `k` indices into uint8 `k x C x H x W` pixels."""

    labels: np.ndarray
    fetch: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Square images in `len(classes)` classes.

    `mean` and `std` are one number per channel, of pixels scaled to [0, 1]. `flip` says whether a horizontal
    flip keeps the class. `fingerprint` is a hash (16 hex digits) of labels, shapes and a fixed sample of the
    images: it names the data whatever its path. `kind` is what the networks of a space must read.
    """

    kind: ClassVar[Reading] = "images"

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    channels: int
    image_size: int
    fingerprint: str

    def normalise(self, images: np.ndarray) -> torch.Tensor:
        """Turn uint8 `k x C x H x W` pixels into float32 `k x C x H x W`: (pixel / 255 - mean) / std.

        The arithmetic is NumPy's in float32, which rounds alike on every machine, so batches hash alike.
        """
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return torch.from_numpy((images.astype(np.float32) / np.float32(255) - mean) / std)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to score.

    `images` are normalised float32 `B x C x H x W`, `labels` int64 `B`; `hash` (16 hex digits) covers the
    bytes and the shape of the images, and `dataset` is the name of the data set they come from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    hash: str
    dataset: str


def draw_batch(dataset: Dataset, size: int, seed: int) -> Batch:
    """Draw `size` different training images, without augmentation; a larger batch extends a smaller one.

    Raises InputError if `size` is below 2 or above the number of training images, if `seed` is not within 64
    bits, or if two drawn images are equal, since a kernel with two equal rows has no inverse.
    """
    if size < 2:
        raise InputError("--batch-size must be at least 2: a score compares images")
    if size > len(dataset.train):
        raise InputError(
            f"--batch-size is {size}, but {dataset.name} has only {len(dataset.train)} training images"
        )
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"--seed must be a whole number from 0 to 2**64 - 1, not {seed}")
    chosen = seeded_order(len(dataset.train), seed)[:size]
    pixels = dataset.train.fetch(chosen)
    # Normalisation maps different pixels to different numbers, so the pixels tell which images are equal.
    repeated = size - len({hashlib.blake2b(image.tobytes()).digest() for image in pixels})
    if repeated:
        raise InputError(
            f"{repeated} of the {size} images drawn from {dataset.name} with --seed {seed} repeat another one, "
            "and two equal images make the kernel singular; remove the copies or choose another --seed"
        )
    images = dataset.normalise(pixels)
    return Batch(images, torch.from_numpy(dataset.train.labels[chosen]), _images_hash(images), dataset.name)


def own_batch(images: torch.Tensor, labels: torch.Tensor | None = None) -> Batch:
    """Batch of a user's own images, `B x ...`, as they are, with int64 labels `B`, all 0 where there are none.

    Raises InputError if there are fewer than 2 images, if two are equal, or if the labels are not as many.
    """
    if images.dim() < 2 or len(images) < 2:
        raise InputError(f"a batch must hold at least 2 images as B x ..., not shape {tuple(images.shape)}")
    rows = images.detach().cpu()
    repeated = len(rows) - len({hashlib.blake2b(row.numpy().tobytes()).digest() for row in rows})
    if repeated:
        raise InputError(f"{repeated} of {len(rows)} images repeat another one, which makes the kernel singular")
    if labels is None:
        labels = torch.zeros(len(images), dtype=torch.int64)
    if labels.shape != (len(images),):
        raise InputError(f"{len(images)} images need as many labels, not labels of shape {tuple(labels.shape)}")
    return Batch(images, labels.long(), _images_hash(rows), "own images")


def _images_hash(images: torch.Tensor) -> str:
    return short_hash(str(tuple(images.shape)).encode(), images.numpy().astype("<f4").tobytes())


def seeded_order(count: int, key: int) -> np.ndarray:
    """Return 0 .. count - 1 (int64 `count`) in a random order that `key` fixes.

    NumPy promises the same raw stream of Philox for ever, but not the same `Generator.permutation`, so the
    order comes from sorting raw 64-bit numbers.
    """
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable").astype(np.int64)


def subset(images: Images, chosen: np.ndarray) -> Images:
    """Return the images at the int64 `k` indices `chosen`, in that order."""
    return Images(images.labels[chosen], partial(_fetch_chosen, images.fetch, chosen))


def _fetch_chosen(
    fetch: Callable[[np.ndarray], np.ndarray], chosen: np.ndarray, indices: np.ndarray
) -> np.ndarray:
    return fetch(chosen[indices])


def split(images: Images, held_out: float) -> tuple[Images, Images]:
    """Split into train and test, class by class, always in the same way.

    Test gets the fraction `held_out` of each class, rounded, but at least one image of a class that has two.
    """
    order = seeded_order(len(images), SPLIT_KEY)
    in_test = np.zeros(len(images), dtype=bool)
    for label in np.unique(images.labels):
        members = order[images.labels[order] == label]
        if len(members) > 1:
            in_test[members[: max(1, round(held_out * len(members)))]] = True
    return subset(images, np.flatnonzero(~in_test)), subset(images, np.flatnonzero(in_test))


def assemble(
    name: str,
    classes: tuple[str, ...],
    train: Images,
    test: Images,
    *,
    flip: bool,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
) -> Dataset:
    """Make the data set of two splits and their (mean, std); shape and fingerprint come from the images."""
    parts = [images.fetch(seeded_order(len(images), SAMPLE_KEY)[:FINGERPRINT_SAMPLE]) for images in (train, test)]
    channels, image_size = parts[0].shape[1:3]
    mean, std = statistics
    return Dataset(
        name=name,
        classes=classes,
        train=train,
        test=test,
        mean=mean,
        std=std,
        flip=flip,
        channels=channels,
        image_size=image_size,
        fingerprint=short_hash(
            str([(len(train), len(test)), *(part.shape for part in parts)]).encode(),
            *(images.labels.astype("<i8").tobytes() for images in (train, test)),
            *(part.tobytes() for part in parts),
        ),
    )


def pixel_statistics(name: str, images: Images, limit: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1], from at most `limit` seeded images.

    Pixels are counted by value first, so the result is exact. Raises InputError if a channel is constant.
    """
    chosen = np.sort(seeded_order(len(images), SAMPLE_KEY)[:limit])
    counts = sum(
        _value_counts(images.fetch(chosen[start : start + STATISTICS_CHUNK]))
        for start in range(0, len(chosen), STATISTICS_CHUNK)
    )
    values = np.arange(256) / 255
    shares = counts / np.sum(counts, axis=1, keepdims=True)
    mean = np.sum(shares * values, axis=1)
    std = np.sqrt(np.sum(shares * (values - mean[:, None]) ** 2, axis=1))
    if not std.all():
        raise InputError(
            f"{name}: all train pixels of channel {int(np.argmin(std))} are equal; images must differ"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _value_counts(pixels: np.ndarray) -> np.ndarray:
    """Count each pixel value: uint8 `k x C x H x W` in, int64 `C x 256` out."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels.swapaxes(0, 1)])


def short_hash(*parts: bytes) -> str:
    """Hash the parts, in order, into 16 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
