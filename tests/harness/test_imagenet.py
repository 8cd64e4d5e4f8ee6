"""ImageNet folders, Tiny-ImageNet-200 and CIFAR-10.1: small files in the official formats."""

import re
from pathlib import Path

import numpy as np
import pytest
from test_datasets import all_pixels, message_of, random_pixels, write_cifar10, write_folder, write_image

from harness.datasets import load_dataset

WNIDS = ("n02124075", "n01443537", "n04067472")


def write_tiny_imagenet(root: Path) -> Path:
    """Three classes with two training and one validation image each, laid out as the archive unpacks."""
    folder = root / "tiny-imagenet-200"
    lines = []
    for seed, wnid in enumerate(WNIDS):
        for number in range(2):
            image = random_pixels(64, 64, 3, seed=10 * seed + number)
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", image)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
        write_image(folder / "val" / "images" / f"val_{seed}.JPEG", np.full((64, 64, 3), 40 * seed, np.uint8))
        lines.append(f"val_{seed}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    write_image(folder / "test" / "images" / "test_0.JPEG", random_pixels(64, 64, 3))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text("n00001740\tentity\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return folder


def test_tiny_imagenet_trains_on_class_folders_and_tests_on_annotated_images(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    dataset = load_dataset("tiny-imagenet-200", root=tmp_path)
    assert dataset.classes == WNIDS
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test.labels.tolist() == [2, 1, 0]
    assert all_pixels(dataset.train).shape == (6, 3, 64, 64)
    assert np.abs(all_pixels(dataset.test)[:, 0, 0, 0].astype(int) - [80, 40, 0]).max() <= 1


def test_tiny_imagenet_without_its_files_says_what_is_missing(tmp_path: Path) -> None:
    assert "wnids.txt: unpack the official archive into --data-dir" in message_of(
        "tiny-imagenet-200", root=tmp_path
    )
    folder = write_tiny_imagenet(tmp_path)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn00000000\t0\t0\t1\t1\n")
    assert "val_annotations.txt, line 1: no image, tab and class" in message_of("tiny-imagenet-200", root=tmp_path)


def test_imagenet_takes_both_splits_as_they_are(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"n01440764": 3, "n01443537": 2}, side=50)
    write_folder(tmp_path / "val", {"n01440764": 1, "n01443537": 2}, side=50)
    dataset = load_dataset(f"imagenet:{tmp_path}")
    assert dataset.classes == ("n01440764", "n01443537")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1, 1]
    assert (dataset.image_size, dataset.mean) == (224, (0.485, 0.456, 0.406))
    assert load_dataset(f"imagenet:{tmp_path}", image_size=32).image_size == 32


def test_imagenet_splits_of_different_classes_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    assert "val; expected train and val" in message_of(f"imagenet:{tmp_path}")
    write_folder(tmp_path / "val", {"a": 1, "c": 1})
    assert "train and val hold different classes, b among them" in message_of(f"imagenet:{tmp_path}")


def test_a_class_of_imagenet_without_images_is_named(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folder(tmp_path / split, {"a": 1, "b": 1})
    (tmp_path / "val" / "b" / "000.png").unlink()
    assert "class b has no image file" in message_of(f"imagenet:{tmp_path}")


def write_cifar101(root: Path, count: int = 30) -> None:
    np.save(root / "cifar10.1_v6_data.npy", random_pixels(count, 32, 32, 3, seed=9))
    np.save(root / "cifar10.1_v6_labels.npy", (np.arange(count) % 10).astype(np.int32))


def test_cifar101_trains_on_cifar10_and_tests_on_its_own_images(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    write_cifar101(tmp_path)
    dataset, cifar = (load_dataset(name, root=tmp_path) for name in ("cifar10.1", "cifar10"))
    np.testing.assert_array_equal(all_pixels(dataset.train), all_pixels(cifar.train))
    expected = random_pixels(30, 32, 32, 3, seed=9).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(all_pixels(dataset.test), expected)
    assert dataset.test.labels.tolist() == [image % 10 for image in range(30)]
    assert dataset.fingerprint != cifar.fingerprint


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (random_pixels(4, 3, 32, 32), np.zeros(4, int), r"not uint8 \[n, 32, 32, 3\]"),
        (random_pixels(4, 32, 32, 3), np.zeros(3, int), "one whole number for each of 4 images"),
        (random_pixels(4, 32, 32, 3), np.full(4, 10), "labels are not all from 0 to 9"),
    ],
)
def test_cifar101_arrays_of_another_shape_are_refused(
    tmp_path: Path, data: np.ndarray, labels: np.ndarray, message: str
) -> None:
    write_cifar10(tmp_path)
    assert "no file" in message_of("cifar10.1", root=tmp_path)
    np.save(tmp_path / "cifar10.1_v6_data.npy", data)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", labels)
    assert re.search(message, message_of("cifar10.1", root=tmp_path))
