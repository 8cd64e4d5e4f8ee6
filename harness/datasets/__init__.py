"""Named data sets: official folders and the user's own images, as seeded, hashed, normalised batches."""

from pathlib import Path

from harness.datasets.base import Batch, Dataset, Images, draw_batch, own_batch
from harness.datasets.imagenet import load_imagenet, load_tiny_imagenet
from harness.datasets.official import load_cifar, load_cifar101, load_digits, load_imagenet16
from harness.datasets.own import load_folder, load_npz
from harness.datasets.text import load_corpus, load_embedded
from spaces.errors import InputError

__all__ = ["Batch", "Dataset", "Images", "dataset_names", "draw_batch", "load_dataset", "own_batch"]


def dataset_names() -> dict[str, str]:
    """Return every name or pattern that `load_dataset` takes, each with a one-line description."""
    return {
        "digits": "scikit-learn's handwritten digits, 10 classes, grey, enlarged to 32x32; needs no download",
        "cifar10": "CIFAR-10, 10 classes, 32x32: cifar-10-batches-py in --data-dir, or --download",
        "cifar100": "CIFAR-100, 100 classes, 32x32: cifar-100-python in --data-dir, or --download",
        "cifar10.1": "CIFAR-10 to train on, CIFAR-10.1 v6 to test on: its two .npy files in --data-dir",
        "imagenet16-120": "first 120 classes of ImageNet at 16x16: the batch files in ImageNet16 in --data-dir",
        "tiny-imagenet-200": "Tiny-ImageNet, 200 classes, 64x64: tiny-imagenet-200 in --data-dir",
        "imagenet:PATH": "ImageNet: train and val below PATH, one folder per class in each, 224x224",
        "folder:PATH": "your images: one folder per class below PATH, any size, made RGB and square",
        "npz:PATH": "your arrays: train_images (uint8) or train_jpeg with train_offsets, train_labels, test_...",
        "text": "scikit-learn's descriptions of its data sets, 10,000 words of English; needs no download",
        "ptb:PATH": "Penn Treebank: ptb.train.txt (or train.txt), ptb.valid.txt and ptb.test.txt below PATH",
        "wikitext2:PATH": "WikiText-2: wiki.train.tokens (or train.txt), and so on; without it valid.txt trains",
    }


def load_dataset(
    name: str, *, root: Path = Path("data"), download: bool = False, image_size: int | None = None
) -> Dataset:
    """Load the data set called `name` (see `dataset_names`).

    `root` is the folder of the official data sets (--data-dir), `download` lets torchvision fetch cifar10 or
    cifar100 into it, and `image_size` resizes the images of any data set to that many pixels a side; for a text
    it is the tokens of a sequence that is scored. Raises
    InputError for an unknown name, for missing or corrupt files, and for data of the wrong shape.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"--image-size must be at least 1 pixel, not {image_size}")
    match name.partition(":"):
        case "digits", "", "":
            return load_digits(image_size)
        case (("cifar10" | "cifar100"), "", ""):
            return load_cifar(name, root, download, image_size)
        case "cifar10.1", "", "":
            return load_cifar101(root, image_size)
        case "imagenet16-120", "", "":
            return load_imagenet16(root, image_size)
        case "tiny-imagenet-200", "", "":
            return load_tiny_imagenet(root, image_size)
        case "imagenet", ":", path if path:
            return load_imagenet(name, Path(path).expanduser(), image_size)
        case "folder", ":", path if path:
            return load_folder(name, Path(path).expanduser(), image_size)
        case "npz", ":", path if path:
            return load_npz(name, Path(path).expanduser(), image_size)
        case "text", "", "":
            return load_embedded(image_size)
        case ((("ptb" | "wikitext2") as corpus), ":", path) if path:
            return load_corpus(corpus, Path(path).expanduser(), image_size)
    raise InputError(f"no data set {name!r}; allowed are {', '.join(dataset_names())}")
