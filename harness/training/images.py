"""Images on the device that trains, which of them train and validate, and their augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.datasets import Dataset, Images
from harness.machine import available_memory
from harness.training.recipes import Recipe
from spaces.errors import InputError
from spaces.weights import keyed_generator

PRELOAD_BYTES = 4 << 30
"""Pixels (one byte each) are kept on the device if they take no more than this and a quarter of what is free."""

Indices = NDArray[np.int64]


class Normalise:
    """uint8 [B, C, H, W] to normalised float32, channels last, on the device of the pixels."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None] for values in (dataset.mean, dataset.std)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """The images, in memory of their own."""
        images = pixels.contiguous(memory_format=torch.channels_last).float()
        return images.div_(255).sub_(self._mean).div_(self._std)


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """`pixels` turns int64 [k] indices into uint8 [k, C, H, W]; `labels` int64 [n]; both on the device."""

    pixels: Callable[[Indices], Tensor]
    labels: Tensor
    normalise: Normalise

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self, chosen: Indices, augment: Callable[[Tensor], Tensor] = lambda pixels: pixels
    ) -> tuple[Tensor, Tensor]:
        """Normalised float32 [k, C, H, W], augmented before, and labels [k]."""
        labels = self.labels[torch.from_numpy(chosen).to(self.labels.device)]
        return self.normalise(augment(self.pixels(chosen))), labels


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """A recipe, a seed and the images that they choose, on the device: made once, for many networks."""

    recipe: Recipe
    seed: int
    device: torch.device
    training: DeviceImages
    validation: DeviceImages
    test: DeviceImages
    flip: bool
    classes: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._starts(len(self.training)))

    def batches(
        self, generator: np.random.Generator, images: DeviceImages | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images, labels) as `DeviceImages.batch`; order and augmentation from the generator.

        It shows the training images, or others that are to be augmented like them.
        """
        shown = self.training if images is None else images
        order = generator.permutation(len(shown))
        for start in self._starts(len(shown)):
            batch, labels = shown.batch(
                order[start : start + self.recipe.batch_size],
                lambda pixels: crop_and_flip(pixels, self.recipe.crop_padding, self.flip, generator),
            )
            if self.recipe.cutout:
                cut_out(batch, self.recipe.cutout, generator)
            yield batch, labels

    def _starts(self, count: int) -> range:
        # A last batch may be smaller, but batch norm cannot train on a last single image.
        return range(0, count - 1, self.recipe.batch_size)


def prepare_training(dataset: Dataset, recipe: Recipe, seed: int, device: torch.device) -> TrainingSetup:
    """Split the training images and put everything on the device.

    Raises:
        InputError: the data set is none of images, or has too few to train, validate and test; or the recipe cuts
            out squares so large that nothing is left of any image.
    """
    if dataset.kind != "images":
        raise InputError(f"{dataset.name} is a text, and recipe {recipe.name} is for images")
    if recipe.cutout >= 2 * dataset.image_size:
        raise InputError(
            f"cutout {recipe.cutout} of {recipe.name} hides all of every image of {dataset.image_size} pixels a "
            "side; give a smaller --cutout"
        )
    training, validation = hold_out(dataset, recipe, seed)
    normalise = Normalise(dataset, device)
    return TrainingSetup(
        recipe=recipe,
        seed=seed,
        device=device,
        training=_put_on_device(dataset.train, training, normalise, device),
        validation=_put_on_device(dataset.train, validation, normalise, device),
        test=_put_on_device(dataset.test, np.arange(len(dataset.test)), normalise, device),
        flip=recipe.flip and dataset.flip,
        classes=len(dataset.classes),
    )


def _put_on_device(images: Images, indices: Indices, normalise: Normalise, device: torch.device) -> DeviceImages:
    """The chosen images of a split, kept on the device if they fit, else fetched when they are asked for."""
    labels = torch.from_numpy(images.labels[indices]).to(device)

    def fetch(chosen: Indices) -> Tensor:
        return torch.from_numpy(images.fetch(indices[chosen])).to(device)

    if len(indices) * images.fetch(indices[:1]).nbytes > min(PRELOAD_BYTES, _free_bytes(device) // 4):
        return DeviceImages(fetch, labels, normalise)
    kept = fetch(np.arange(len(indices)))
    return DeviceImages(lambda chosen: kept[torch.from_numpy(chosen).to(device)], labels, normalise)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = available_memory()
    return PRELOAD_BYTES if available is None else available


def hold_out(dataset: Dataset, recipe: Recipe, seed: int) -> tuple[Indices, Indices]:
    """Indices of the training split to train on and to validate on, drawn from the seed.

    Raises:
        InputError: too few images to train, validate and test.
    """
    count = len(dataset.train)
    validating = max(1, round(recipe.validation_fraction * count))
    if count - validating < 2 or len(dataset.test) == 0:
        raise InputError(
            f"{dataset.name} has {count} training and {len(dataset.test)} test images; a training with "
            f"validation_fraction {recipe.validation_fraction} needs 2 to train on, 1 to validate and 1 to test"
        )
    order = keyed_generator(seed, "validation split").permutation(count)
    return order[validating:][: recipe.train_images], order[:validating]


def crop_and_flip(pixels: Tensor, padding: int, flip: bool, generator: np.random.Generator) -> Tensor:
    """Each image [B, C, H, W] shifted by -padding..padding both ways, black coming in; half mirrored if `flip`."""
    count, _, height, width = pixels.shape
    drawn = generator.integers(2 * padding + 1, size=(2, count))
    top, left = torch.from_numpy(drawn).to(pixels.device)
    windows = F.pad(pixels, (padding, padding, padding, padding)).unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(count, device=pixels.device), :, top, left]
    if not flip:
        return cropped
    mirrored = torch.from_numpy(generator.integers(2, size=count) == 1).to(pixels.device)
    return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)


def cut_out(images: Tensor, side: int, generator: np.random.Generator) -> None:
    """Set a square of `side` pixels in each normalised image [B, C, H, W] to 0, the mean colour, in place.

    Its centre is any pixel, so the square may stick out (DeVries and Taylor, 2017; DARTS, cnn/utils.py).
    """
    count, _, height, width = images.shape
    inside = [
        torch.from_numpy(np.abs(np.arange(length) + 0.5 - generator.integers(length, size=(count, 1))) < side / 2)
        for length in (height, width)
    ]
    rows, columns = (part.to(images.device) for part in inside)
    images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
