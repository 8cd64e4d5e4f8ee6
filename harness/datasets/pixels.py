"""Turn images of any size and mode into uint8 squares; Pillow resizes in integers, so pixels are reproducible."""

from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from harness.datasets.base import Images
from spaces.errors import InputError


def array_images(array: np.ndarray, labels: np.ndarray, size: int) -> Images:
    """Make a split of uint8 `n x C x H x W` pixels and int64 `n` labels; fetching resizes to `size` a side."""
    return Images(labels, partial(_fetch_squares, array, size))


def _fetch_squares(array: np.ndarray, size: int, indices: np.ndarray) -> np.ndarray:
    """Pick images and bring each channel to `size x size`, bilinear and antialiased, cropped at the centre."""
    images: np.ndarray = array[indices]
    count, channels, height, width = images.shape
    if height == width == size:
        return images
    squares = np.empty((count, channels, size, size), np.uint8)
    for index in np.ndindex(count, channels):
        squares[index] = np.asarray(_fit(Image.fromarray(images[index]), size))
    return squares


def decode_square(source: Path | BytesIO, size: int, described: str) -> np.ndarray:
    """Read an image file as RGB, cropped to its central square and resized: uint8 `3 x size x size`.

    Raises InputError, naming the file as `described`, if Pillow cannot read it.
    """
    try:
        with Image.open(source) as image:
            # JPEG can decode at a fraction of its size: several times faster for photographs, still above size.
            image.draft(None, (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image)
            return np.asarray(_fit(_to_rgb(upright), size)).transpose(2, 0, 1)
    # Each of Pillow's readers fails in its own way on damaged files, and all of them mean the same.
    except Exception as error:
        raise InputError(f"{described}: not an image that can be read ({error})") from error


def shorter_side(source: BytesIO, described: str) -> int:
    """Return the shorter side of an image file in pixels, from its header; raises InputError as above."""
    try:
        with Image.open(source) as image:
            return min(image.size)
    except Exception as error:
        raise InputError(f"{described}: not an image that can be read ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    # Pillow clips deeper greys at 255 instead of scaling them, which would turn most images white.
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no fixed range; save it with 8 or 16 bits a channel")
    return image.convert("RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
