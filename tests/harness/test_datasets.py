"""Data sets: every loader on small files in the real format, and batches that are the same to the bit."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from harness.datasets import Dataset, dataset_names, draw_batch, load_dataset
from harness.datasets.base import Images, assemble, pixel_statistics, seeded_order, split
from harness.datasets.pixels import array_images, decode_square
from spaces.errors import InputError


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_pickle(path: Path, content: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def write_cifar10(root: Path, per_batch: int = 20, protocol: int = 2) -> None:
    folder = root / "cifar-10-batches-py"
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    write_pickle(folder / "batches.meta", {"label_names": names, "num_vis": 3072}, protocol)
    for seed, file in enumerate(["test_batch", *(f"data_batch_{number}" for number in range(1, 6))]):
        batch = {
            "batch_label": file,
            "data": random_pixels(per_batch, 3072, seed=seed),
            "labels": [image % 10 for image in range(per_batch)],
        }
        write_pickle(folder / file, batch, protocol)


def write_cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    names = {"fine_label_names": [f"fine{label}" for label in range(100)], "coarse_label_names": ["coarse"] * 20}
    write_pickle(folder / "meta", names)
    for seed, (file, count) in enumerate([("train", 200), ("test", 100)]):
        fine = [image % 100 for image in range(count)]
        data = random_pixels(count, 3072, seed=seed)
        write_pickle(
            folder / file, {"data": data, "fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}
        )


def write_imagenet16(root: Path, first_label: int = 1) -> None:
    files = [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]
    for seed, file in enumerate(files):
        labels = [first_label + (37 * image) % 1000 for image in range(1000)]
        batch = {"data": random_pixels(1000, 768, seed=seed), "labels": labels, "mean": np.zeros(768)}
        write_pickle(root / "ImageNet16" / file, batch)


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(folder: Path, counts: dict[str, int], side: int = 40) -> None:
    for seed, (label, count) in enumerate(counts.items()):
        for image in range(count):
            write_image(folder / label / f"{image:03d}.png", random_pixels(side, side, 3, seed=100 * seed + image))


def jpeg_arrays(images: np.ndarray) -> dict[str, np.ndarray]:
    files = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    return {"jpeg": np.frombuffer(b"".join(files), np.uint8), "offsets": offsets.astype(np.int64)}


def write_npz(file: Path, **arrays: Any) -> str:
    np.savez(file, **arrays)
    return f"npz:{file}"


def all_pixels(images: Images) -> np.ndarray:
    return images.fetch(np.arange(len(images)))


def message_of(name: str, **options: Any) -> str:
    """Load a data set that must be refused, and return the one line that says why."""
    with pytest.raises(InputError) as raised:
        load_dataset(name, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Batches


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_batch_is_normalised_float32_with_int64_labels(digits: Dataset) -> None:
    batch = draw_batch(digits, 64, seed=0)
    assert batch.images.shape == (64, 1, 32, 32)
    assert batch.images.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert abs(batch.images.mean().item()) < 0.1
    assert abs(batch.images.std().item() - 1) < 0.1
    assert (batch.dataset, len(batch.hash)) == ("digits", 16)


def test_batch_has_the_same_hash_in_any_process(digits: Dataset) -> None:
    program = (
        "from harness.datasets import draw_batch, load_dataset; digits = load_dataset('digits');"
        "print(draw_batch(digits, 32, 5).hash, digits.fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert output == [draw_batch(digits, 32, 5).hash, digits.fingerprint]


def test_batch_hash_is_pinned_so_that_stored_scores_stay_comparable() -> None:
    pixels = np.arange(8 * 3 * 4 * 4).reshape(8, 3, 4, 4).astype(np.uint8)
    images = array_images(pixels, np.arange(8) % 2, 4)
    dataset = assemble("ramp", ("0", "1"), images, images, flip=True, statistics=((0.5,) * 3, (0.25,) * 3))
    assert draw_batch(dataset, 4, seed=3).labels.tolist() == [0, 1, 1, 0]
    assert draw_batch(dataset, 4, seed=3).hash == "cff7716e2e861d59"


def test_other_seeds_and_sizes_give_other_batches(digits: Dataset) -> None:
    hashes = {draw_batch(digits, size, seed).hash for size in (16, 17) for seed in range(10)}
    assert len(hashes) == 20


def test_larger_batch_extends_the_smaller_one(digits: Dataset) -> None:
    small, large = draw_batch(digits, 16, seed=4), draw_batch(digits, 64, seed=4)
    assert torch.equal(large.images[:16], small.images)
    assert torch.equal(large.labels[:16], small.labels)


def test_data_set_can_be_sent_to_another_process(digits: Dataset) -> None:
    received = pickle.loads(pickle.dumps(digits))
    assert draw_batch(received, 16, seed=4).hash == draw_batch(digits, 16, seed=4).hash


def test_batch_comes_from_the_train_split_with_its_labels(digits: Dataset) -> None:
    batch = draw_batch(digits, len(digits.train), seed=0)
    assert torch.equal(torch.bincount(batch.labels), torch.from_numpy(np.bincount(digits.train.labels)))
    position = seeded_order(len(digits.train), 0)[0]
    expected = digits.normalise(digits.train.fetch(np.array([position])))
    assert torch.equal(batch.images[:1], expected)
    assert batch.labels[0] == digits.train.labels[position]


def test_batch_of_one_image_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match="--batch-size must be at least 2: a score compares images"):
        draw_batch(digits, 1, seed=0)


def test_batch_above_the_train_split_is_refused_with_both_numbers(digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"5000.*1347"):
        draw_batch(digits, 5000, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_64_bits_is_refused(digits: Dataset, seed: int) -> None:
    with pytest.raises(InputError, match="--seed"):
        draw_batch(digits, 4, seed)


def test_repeated_images_in_a_batch_are_counted_and_refused(tmp_path: Path) -> None:
    pixels = random_pixels(10, 3, 8, 8)
    pixels[[4, 7]] = pixels[1]
    name = write_npz(
        tmp_path / "own.npz",
        train_images=pixels,
        train_labels=np.arange(10) % 2,
        test_images=pixels,
        test_labels=np.arange(10) % 2,
    )
    with pytest.raises(InputError, match=r"2 of the 10 images .* kernel singular"):
        draw_batch(load_dataset(name), 10, seed=0)


@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 5), st.integers(1, 5))),
)
def test_normalisation_is_torchvisions_to_the_bit(images: np.ndarray) -> None:
    part = array_images(images, np.zeros(len(images)), 1)
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    dataset = assemble("any", ("0",), part, part, flip=True, statistics=(mean, std))
    scaled = torch.from_numpy(images).float().div(255)
    expected = (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(dataset.normalise(images), expected)


# Splits and statistics


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), held_out=st.sampled_from([0.2, 0.25, 0.5]))
def test_split_parts_every_class_at_the_given_fraction_and_loses_no_image(
    labels: list[int], held_out: float
) -> None:
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    train, test = split(array_images(pixels, np.array(labels), 1), held_out)
    together = np.concatenate([all_pixels(train).ravel(), all_pixels(test).ravel()])
    assert sorted(together) == list(range(len(labels)))
    assert all(labels[pixel] == label for pixel, label in zip(all_pixels(test).ravel(), test.labels, strict=True))
    for label in set(labels):
        count = labels.count(label)
        assert (test.labels == label).sum() == (max(1, round(held_out * count)) if count > 1 else 0)


def test_order_of_a_seed_is_a_permutation_that_never_changes() -> None:
    assert sorted(seeded_order(1000, 3)) == list(range(1000))
    assert seeded_order(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


@settings(max_examples=30)
@given(images=hnp.arrays(np.uint8, st.tuples(st.integers(2, 300), st.just(2), st.just(2), st.just(2))))
def test_statistics_are_the_mean_and_standard_deviation_of_each_channel(images: np.ndarray) -> None:
    images[0, :, 0, 0] = images[1, :, 0, 0] + 1
    mean, std = pixel_statistics("any", array_images(images, np.zeros(len(images)), 2), limit=1000)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)), atol=1e-12)


# Names


def test_unknown_name_lists_what_is_allowed() -> None:
    for name in ("mnist", "digits:x", "folder:", "npz", ""):
        assert all(allowed in message_of(name) for allowed in dataset_names())


@pytest.mark.parametrize("image_size", [0, -3])
def test_image_size_below_one_is_refused(image_size: int) -> None:
    assert "--image-size" in message_of("digits", image_size=image_size)


# Digits


def test_digits_are_real_grey_images_enlarged_and_split_three_to_one(digits: Dataset) -> None:
    assert (digits.channels, digits.image_size, digits.flip) == (1, 32, False)
    assert (len(digits.train), len(digits.test)) == (1347, 450)
    assert digits.classes == tuple("0123456789")
    assert all_pixels(digits.test).max() == 255
    shares = np.bincount(digits.test.labels) / np.bincount(digits.train.labels)
    assert np.all(abs(shares - 1 / 3) < 0.02)


def test_image_size_resizes_digits() -> None:
    assert draw_batch(load_dataset("digits", image_size=8), 4, seed=0).images.shape == (4, 1, 8, 8)


# CIFAR


@pytest.mark.parametrize("protocol", range(6))
def test_cifar10_reads_batch_files_of_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    write_cifar10(tmp_path, protocol=protocol)
    dataset = load_dataset("cifar10", root=tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (100, 20)
    assert (dataset.channels, dataset.image_size, dataset.flip) == (3, 32, True)
    assert dataset.classes[:2] == ("airplane", "automobile")
    assert dataset.mean[0] == 125.3 / 255
    assert dataset.std[2] == 66.7 / 255
    assert np.array_equal(all_pixels(dataset.test), random_pixels(20, 3, 32, 32, seed=0))
    assert np.array_equal(dataset.train.fetch(np.array([20])), random_pixels(20, 3, 32, 32, seed=2)[:1])
    assert dataset.train.labels.tolist() == [*range(10)] * 10


def test_cifar10_reads_batch_files_written_by_python_2(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    # What Python 2 and NumPy 1 write for {"data": array of 2 x 3072 times uint8 7, "labels": [3, 4]}.
    batch = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T\x00\x18\x00\x00" + b"\x07" * 6144 + b"tbU\x06labels](K\x03K\x04eu."
    )
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(batch)
    dataset = load_dataset("cifar10", root=tmp_path)
    assert dataset.test.labels.tolist() == [3, 4]
    assert np.array_equal(all_pixels(dataset.test), np.full((2, 3, 32, 32), 7))


def test_cifar100_reads_fine_labels(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    dataset = load_dataset("cifar100", root=tmp_path, image_size=16)
    assert (len(dataset.train), len(dataset.test), dataset.image_size) == (200, 100, 16)
    assert (dataset.classes[99], dataset.train.labels[99]) == ("fine99", 99)
    assert dataset.mean == (129.3 / 255, 124.1 / 255, 112.4 / 255)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_says_what_is_expected_where(tmp_path: Path, name: str) -> None:
    message = message_of(name, root=tmp_path)
    assert "--data-dir" in message
    assert "--download" in message
    assert str(tmp_path) in message


def test_one_missing_cifar_file_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    assert "data_batch_4" in message_of("cifar10", root=tmp_path)


@settings(max_examples=20, deadline=None)
@given(kept=st.floats(0, 0.999))
def test_cifar_file_cut_short_is_named(tmp_path_factory: pytest.TempPathFactory, kept: float) -> None:
    root = tmp_path_factory.mktemp("cut")
    write_cifar10(root, per_batch=10)
    file = root / "cifar-10-batches-py" / "data_batch_2"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    assert "data_batch_2" in message_of("cifar10", root=root)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"labels": [1]},
        {"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]},
        {"data": np.zeros((2, 768), np.uint8), "labels": [1, 2]},
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, [2]]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": np.array([0.5, 1])},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
    ],
)
def test_cifar_file_with_other_content_is_named(tmp_path: Path, content: object) -> None:
    write_cifar10(tmp_path)
    write_pickle(tmp_path / "cifar-10-batches-py" / "test_batch", content)
    assert "test_batch" in message_of("cifar10", root=tmp_path)


def test_cifar_class_names_of_another_number_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    write_pickle(tmp_path / "cifar-10-batches-py" / "batches.meta", {"label_names": ["cat"]})
    assert "batches.meta" in message_of("cifar10", root=tmp_path)


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_that_would_run_code_is_refused_before_it_does(tmp_path: Path, protocol: int) -> None:
    write_cifar10(tmp_path)
    marker = tmp_path / "ran"
    write_pickle(tmp_path / "cifar-10-batches-py" / "test_batch", {"data": RunsCode(marker)}, protocol)
    assert "only arrays are" in message_of("cifar10", root=tmp_path)
    assert not marker.exists()


def test_download_into_an_impossible_place_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert "--download could not fetch cifar10" in message_of("cifar10", root=blocked, download=True)


# ImageNet16-120


def test_imagenet16_keeps_the_first_120_classes_and_counts_from_0(tmp_path: Path) -> None:
    write_imagenet16(tmp_path)
    dataset = load_dataset("imagenet16-120", root=tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (1200, 120)
    assert sorted(dataset.test.labels) == list(range(120))
    assert (dataset.image_size, len(dataset.classes)) == (16, 120)
    assert dataset.mean[1] == 116.66 / 255
    official_labels = np.array([1 + (37 * image) % 1000 for image in range(1000)])
    position = int(np.flatnonzero(official_labels == 120)[0])
    kept = dataset.test.fetch(np.flatnonzero(dataset.test.labels == 119))
    assert np.array_equal(kept[0], random_pixels(1000, 3, 16, 16, seed=10)[position])


def test_imagenet16_with_labels_from_0_is_refused(tmp_path: Path) -> None:
    write_imagenet16(tmp_path, first_label=0)
    assert "from 1 to 1000" in message_of("imagenet16-120", root=tmp_path)


def test_missing_imagenet16_says_what_is_expected_where(tmp_path: Path) -> None:
    message = message_of("imagenet16-120", root=tmp_path)
    assert all(text in message for text in ("train_data_batch_1", "ImageNet16", "--data-dir", "val_data"))


# Folders


def test_folder_takes_classes_by_name_and_holds_out_a_fifth_of_each(tmp_path: Path) -> None:
    write_folder(tmp_path, {"zebra": 10, "ant": 5, "lone": 1})
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.classes == ("ant", "lone", "zebra")
    assert np.bincount(dataset.train.labels).tolist() == [4, 1, 8]
    assert np.bincount(dataset.test.labels).tolist() == [1, 0, 2]
    assert (dataset.channels, dataset.image_size, dataset.flip) == (3, 32, True)
    assert draw_batch(dataset, 13, seed=1).images.shape == (13, 3, 32, 32)


def test_folder_is_known_by_its_images_and_not_by_its_place(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_folder(tmp_path / place, {"a": 6, "b": 6})
    here, there = (load_dataset(f"folder:{tmp_path / place}") for place in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    assert draw_batch(here, 8, seed=0).hash == draw_batch(there, 8, seed=0).hash
    write_image(tmp_path / "there" / "a" / "003.png", random_pixels(40, 40, 3, seed=999))
    assert load_dataset(f"folder:{tmp_path / 'there'}").fingerprint != here.fingerprint


def test_folder_ignores_hidden_and_other_files_and_looks_into_subfolders(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 4, "b": 4, ".cache": 2})
    write_image(tmp_path / "a" / "deep" / "more.jpg", random_pixels(9, 9))
    write_image(tmp_path / "a" / ".thumbnails" / "small.png", random_pixels(9, 9))
    (tmp_path / "a" / "notes.txt").write_text("about the images")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / "readme.md").write_text("about the folder")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.classes == ("a", "b")
    assert len(dataset.train) + len(dataset.test) == 9


def test_folder_reads_images_only_when_they_are_fetched(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 5, "b": 5})
    dataset = load_dataset(f"folder:{tmp_path}")
    for file in tmp_path.rglob("*.png"):
        write_image(file, np.full((40, 40, 3), 7, np.uint8))
    assert np.all(all_pixels(dataset.train) == 7)


def test_folder_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 4, "b": 4})
    for broken in (tmp_path / "b").iterdir():
        broken.write_bytes(broken.read_bytes()[:60])
    message = message_of(f"folder:{tmp_path}")
    assert ".png" in message
    assert str(tmp_path / "b") in message


def test_class_folder_without_images_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "list.csv").write_text("a,b")
    assert "empty" in message_of(f"folder:{tmp_path}")


def test_folder_with_fewer_than_two_classes_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"only": 3})
    assert "1 class folders" in message_of(f"folder:{tmp_path}")
    assert "no folder" in message_of(f"folder:{tmp_path / 'absent'}")


def test_folder_of_splits_is_not_mistaken_for_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_folder(tmp_path / part, {"a": 2, "b": 2})
    assert "splits" in message_of(f"folder:{tmp_path}")
    assert load_dataset(f"folder:{tmp_path / 'train'}").classes == ("a", "b")


def test_folder_of_one_colour_is_refused(tmp_path: Path) -> None:
    for label in "ab":
        write_image(tmp_path / label / "black.png", np.zeros((8, 8, 3), np.uint8))
    assert "channel 0" in message_of(f"folder:{tmp_path}")


# Decoding


STORED_MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "JPEG": ["L", "RGB", "CMYK", "YCbCr"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"],
    "GIF": ["1", "L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["L", "RGB", "RGBA"],
}


@pytest.mark.parametrize(
    ("format", "mode"), [(format, mode) for format in STORED_MODES for mode in STORED_MODES[format]]
)
def test_every_mode_and_file_type_becomes_an_rgb_square(format: str, mode: str) -> None:
    grey = Image.fromarray(np.full((30, 20, 3), 200, np.uint8))
    buffer = io.BytesIO()
    grey.convert(mode).save(buffer, format)
    square = decode_square(buffer, 16, "image")
    assert square.shape == (3, 16, 16)
    assert square.dtype == np.uint8
    assert square.mean() == pytest.approx(200, abs=10)


def test_16_bit_greys_are_scaled_and_32_bit_ones_refused() -> None:
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128 * 256, np.uint16)).save(deep, "PNG")
    assert decode_square(deep, 8, "deep").max() == 128
    floating = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(floating, "TIFF")
    with pytest.raises(InputError, match=r"floating.tiff: .*32-bit"):
        decode_square(floating, 8, "floating.tiff")


def test_photographs_are_turned_upright() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    upside_down = io.BytesIO()
    Image.fromarray(pixels).save(upside_down, "PNG", exif=exif)
    assert np.array_equal(decode_square(upside_down, 16, "photo").transpose(1, 2, 0), pixels[::-1])


def test_decoding_keeps_the_centre_of_a_wide_image() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    wide = io.BytesIO()
    Image.fromarray(pixels).save(wide, "PNG")
    square = decode_square(wide, 10, "wide")
    assert square[:, :, 1:-1].min() == 200
    assert square.min() > 150


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_image_is_read_or_refused(format: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(12, 12, 3)).save(buffer, format)
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] ^= 255
    kept = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(InputError):
        assert decode_square(io.BytesIO(content[:kept]), 8, "image").shape == (3, 8, 8)


@given(
    array=hnp.arrays(np.uint8, st.tuples(st.integers(0, 2), st.integers(1, 4), *[st.integers(1, 9)] * 2)),
    size=st.integers(1, 12),
)
def test_resized_pixels_stay_within_the_range_of_their_channel(array: np.ndarray, size: int) -> None:
    count, channels = array.shape[:2]
    squares = all_pixels(array_images(array, np.zeros(count), size))
    assert squares.shape == (count, channels, size, size)
    assert np.all(squares.max(axis=(2, 3)) <= array.max(axis=(2, 3)))
    assert np.all(squares.min(axis=(2, 3)) >= array.min(axis=(2, 3)))


# Arrays


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_npz_accepts_channels_first_or_last(tmp_path: Path, layout: str, channels: int) -> None:
    pixels = random_pixels(20, channels, 8, 8)
    stored = pixels if layout == "nchw" else pixels.transpose(0, 2, 3, 1)
    labels = np.arange(20, dtype=np.uint8) % 2
    name = write_npz(
        tmp_path / "own.npz",
        train_images=stored,
        train_labels=labels,
        test_images=stored[:4],
        test_labels=labels[:4],
    )
    dataset = load_dataset(name)
    assert (dataset.channels, dataset.image_size, dataset.classes) == (channels, 8, ("0", "1"))
    assert np.array_equal(all_pixels(dataset.train), pixels)
    assert np.array_equal(all_pixels(dataset.test), pixels[:4])
    assert dataset.mean == pytest.approx((pixels / 255).mean(axis=(0, 2, 3)))


def test_npz_of_grey_images_without_test_part_holds_out_a_fifth(tmp_path: Path) -> None:
    name = write_npz(
        tmp_path / "own.npz", train_images=random_pixels(50, 6, 6), train_labels=np.repeat(np.arange(5), 10)
    )
    dataset = load_dataset(name)
    assert dataset.channels == 1
    assert np.bincount(dataset.train.labels).tolist() == [8] * 5
    assert np.bincount(dataset.test.labels).tolist() == [2] * 5


def test_npz_image_size_crops_and_resizes_what_is_not_square(tmp_path: Path) -> None:
    name = write_npz(
        tmp_path / "own.npz", train_images=random_pixels(10, 3, 20, 30), train_labels=np.arange(10) % 2
    )
    assert "--image-size" in message_of(name)
    assert draw_batch(load_dataset(name, image_size=16), 8, seed=0).images.shape == (8, 3, 16, 16)


def test_npz_of_jpeg_files_decodes_what_pillow_decodes(tmp_path: Path) -> None:
    images = np.repeat(np.repeat(random_pixels(10, 4, 4, 3), 4, axis=1), 4, axis=2)
    arrays = jpeg_arrays(images)
    labels = np.arange(10) % 2
    name = write_npz(
        tmp_path / "own.npz",
        **{f"train_{key}": array for key, array in arrays.items()},
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    dataset = load_dataset(name)
    decoded = all_pixels(dataset.train).transpose(0, 2, 3, 1)
    start, end = arrays["offsets"][3:5]
    assert np.array_equal(decoded[3], np.asarray(Image.open(io.BytesIO(arrays["jpeg"][start:end].tobytes()))))
    assert abs(decoded.astype(float) - images).mean() < 20
    assert load_dataset(name, image_size=8).image_size == 8


def test_damaged_jpeg_is_named_by_its_number(tmp_path: Path) -> None:
    arrays = jpeg_arrays(random_pixels(10, 16, 16, 3))
    jpeg = arrays["jpeg"].copy()
    jpeg[arrays["offsets"][6] : arrays["offsets"][7]] = 0
    name = write_npz(
        tmp_path / "own.npz",
        train_jpeg=jpeg,
        train_offsets=arrays["offsets"],
        train_labels=np.arange(10) % 2,
        test_images=random_pixels(2, 3, 16, 16),
        test_labels=np.arange(2),
    )
    assert "train_jpeg 6" in message_of(name)


IMAGES = random_pixels(10, 3, 8, 8)
LABELS = np.arange(10) % 2
JPEG = jpeg_arrays(random_pixels(10, 8, 8, 3))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({}, "train_images"),
        ({"images": IMAGES, "labels": LABELS}, "train_images"),
        ({"train_images": IMAGES}, "train_labels is missing"),
        ({"train_images": IMAGES.astype(np.float32), "train_labels": LABELS}, "must be uint8"),
        ({"train_images": IMAGES[0, 0], "train_labels": LABELS}, "must be uint8"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS}, "must be uint8"),
        ({"train_images": IMAGES, "train_labels": LABELS[:9]}, "10 train_images but 9 train_labels"),
        ({"train_images": IMAGES, "train_labels": LABELS[:0]}, "whole numbers from 0"),
        ({"train_images": IMAGES, "train_labels": LABELS - 1}, "whole numbers from 0"),
        ({"train_images": IMAGES, "train_labels": LABELS / 2}, "whole numbers from 0"),
        ({"train_images": IMAGES, "train_labels": LABELS[:, None]}, "whole numbers from 0"),
        ({"train_images": IMAGES, "train_labels": LABELS + 1}, "1 lower ones are absent"),
        ({"train_images": IMAGES, "train_labels": LABELS * 10**12}, "classes 0 to k - 1"),
        ({"train_images": IMAGES, "train_labels": LABELS * 0}, "at least 2"),
        ({"train_images": IMAGES * 0, "train_labels": LABELS}, "channel 0"),
        ({"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES}, "test_labels is missing"),
        (
            {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS + 1},
            "test_labels go up to 2",
        ),
        (
            {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:, :1], "test_labels": LABELS},
            "test images",
        ),
        ({"train_jpeg": JPEG["jpeg"], "train_labels": LABELS}, "train_offsets is missing"),
        (
            {"train_jpeg": JPEG["jpeg"], "train_offsets": JPEG["offsets"][:-1], "train_labels": LABELS},
            "11 rising whole numbers",
        ),
        (
            {"train_jpeg": JPEG["jpeg"][:-1], "train_offsets": JPEG["offsets"], "train_labels": LABELS},
            "11 rising whole numbers",
        ),
        (
            {"train_jpeg": JPEG["jpeg"].astype(int), "train_offsets": JPEG["offsets"], "train_labels": LABELS},
            "one row of uint8",
        ),
    ],
)
def test_npz_of_another_shape_says_what_is_wrong(
    tmp_path: Path, arrays: dict[str, np.ndarray], expected: str
) -> None:
    assert expected in message_of(write_npz(tmp_path / "own.npz", **arrays))


def test_npz_that_is_no_archive_of_plain_arrays_is_refused(tmp_path: Path) -> None:
    assert "no file" in message_of(f"npz:{tmp_path / 'absent.npz'}")
    file = tmp_path / "own.npz"
    file.write_bytes(b"text")
    assert "no .npz file" in message_of(f"npz:{file}")
    file.write_bytes(b"")
    assert "no .npz file" in message_of(f"npz:{file}")
    with file.open("wb") as single:
        np.save(single, np.zeros(3))
    assert "no .npz file" in message_of(f"npz:{file}")
    write_npz(file, train_images=IMAGES, train_labels=np.array([None, 1], dtype=object))
    assert "no .npz file" in message_of(f"npz:{file}")
    write_npz(file, train_images=IMAGES, train_labels=LABELS)
    file.write_bytes(file.read_bytes()[:-40])
    assert "no .npz file" in message_of(f"npz:{file}")


# Real data


def test_real_cifar10_subset_has_the_published_channel_means(real_data: Path) -> None:
    dataset = load_dataset(f"npz:{real_data / 'cifar10_subset.npz'}")
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == (5085, 1017, 10)
    assert dataset.mean == pytest.approx((0.494, 0.485, 0.448), abs=0.001)
    batch = draw_batch(dataset, 128, seed=0)
    assert batch.images.shape == (128, 3, 32, 32)
    assert batch.hash == "6c5e6f32bb84b392"


def test_real_cifar10_jpeg_decodes_the_whole_data_set_lazily(real_data: Path) -> None:
    dataset = load_dataset(f"npz:{real_data / 'cifar10_jpeg.npz'}")
    assert (len(dataset.train), len(dataset.test)) == (50000, 10000)
    assert dataset.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.01)
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert draw_batch(dataset, 128, seed=0).images.shape == (128, 3, 32, 32)


def test_real_images_pass_through_cifar_batch_files_unchanged(real_data: Path, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    with np.load(real_data / "cifar10_subset.npz") as archive:
        pixels, labels = archive["test_images"], archive["test_labels"]
    content = {"data": pixels.reshape(len(pixels), 3072), "labels": labels.tolist()}
    write_pickle(tmp_path / "cifar-10-batches-py" / "test_batch", content)
    dataset = load_dataset("cifar10", root=tmp_path)
    assert np.array_equal(all_pixels(dataset.test), pixels)
    assert np.array_equal(dataset.test.labels, labels)
