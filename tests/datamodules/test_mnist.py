import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_advdrop.datamodules import MNISTDataModule
from lightning_advdrop.datamodules.idx import IDXFormatError
from lightning_advdrop.datamodules.sequences import Batch, step_permutation
from tests.helpers.idx_files import idx_bytes, md5, mnist_arrays, write_idx, write_mnist
from tests.helpers.messages import refused

ARRAYS = mnist_arrays(n_train=12, n_test=6)


class SmallMNIST(MNISTDataModule):
    """The same on files of 12 and 6 images."""

    n_train = 8
    n_validation = 4
    n_test = 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_mnist(tmp_path, ARRAYS)
    return tmp_path


def ready(root: Path, **arguments: Any) -> SmallMNIST:
    mnist = SmallMNIST(root, **arguments)
    mnist.prepare_data()
    mnist.setup(None)
    return mnist


def first_test_batch(root: Path, **arguments: Any) -> Tensor:
    batch: Batch = next(iter(ready(root, **arguments).test_dataloader()))
    return batch[0]


@pytest.mark.parametrize(
    ("arguments", "steps", "features"),
    [
        ({}, 784, 1),
        ({"permuted": True}, 784, 1),
        ({"by": "row"}, 28, 28),
        ({"image_size": 14}, 196, 1),
        ({"image_size": 7, "by": "row"}, 7, 7),
        ({"image_size": 1}, 1, 1),
    ],
)
def test_shapes_are_known_before_setup_and_kept(
    root: Path, arguments: dict[str, Any], steps: int, features: int
) -> None:
    mnist = SmallMNIST(root, **arguments)
    assert (mnist.num_steps, mnist.input_size, mnist.num_classes) == (steps, features, 10)
    mnist.setup("fit")
    for loader, count in ((mnist.train_dataloader(), 8), (mnist.val_dataloader(), 4)):
        sequences, labels = next(iter(loader))
        assert sequences.shape == (count, steps, features)
        assert sequences.dtype == torch.float32
        assert sequences.min() >= 0
        assert sequences.max() <= 1
        assert labels.shape == (count,)
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_split_is_the_published_one(tmp_path: Path, suffix: str) -> None:
    write_mnist(tmp_path, ARRAYS, suffix)
    mnist = ready(tmp_path, by="row")
    images, labels = ARRAYS["train-images-idx3-ubyte"], ARRAYS["train-labels-idx1-ubyte"]
    val_images, val_labels = next(iter(mnist.val_dataloader()))
    np.testing.assert_array_equal(val_images, images[8:] / np.float32(255))
    np.testing.assert_array_equal(val_labels, labels[8:])
    train_images, train_labels = next(iter(mnist.train_dataloader()))
    order = [int((train_images == image).all((1, 2)).nonzero()) for image in torch.from_numpy(images[:8]).float() / 255]
    assert sorted(order) == list(range(8))
    np.testing.assert_array_equal(train_labels[order], labels[:8])
    test_images, test_labels = next(iter(mnist.test_dataloader()))
    np.testing.assert_array_equal(test_images, ARRAYS["t10k-images-idx3-ubyte"] / np.float32(255))
    np.testing.assert_array_equal(test_labels, ARRAYS["t10k-labels-idx1-ubyte"])


def test_plain_file_is_preferred(root: Path) -> None:
    write_idx(root / "mnist" / "t10k-labels-idx1-ubyte", np.full(6, 3, np.uint8))
    _, labels = next(iter(ready(root).test_dataloader()))
    assert labels.tolist() == [3] * 6


def test_permutation(root: Path) -> None:
    order = np.random.RandomState(10).permutation(784)
    assert step_permutation(784).tolist() == order.tolist()
    permuted, plain = first_test_batch(root, permuted=True, seed=4), first_test_batch(root)
    torch.testing.assert_close(permuted, plain[:, order], rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 14])
def test_smaller_images_are_averages(root: Path, size: int) -> None:
    block = 28 // size
    images = ARRAYS["t10k-images-idx3-ubyte"].reshape(6, size, block, size, block).mean((2, 4)) / 255
    small = first_test_batch(root, image_size=size, by="row")
    torch.testing.assert_close(small, torch.from_numpy(images).float())


def test_train_size_is_chosen_by_seed(root: Path) -> None:
    chosen = {seed: next(iter(ready(root, train_size=3, seed=seed).train_dataloader()))[0] for seed in range(4)}
    assert {len(images) for images in chosen.values()} == {3}
    assert len({float(images.sum()) for images in chosen.values()}) > 1


def test_each_stage_loads_what_it_needs(root: Path) -> None:
    mnist = SmallMNIST(root)
    mnist.setup("test")
    with refused("train", "setup('fit')", error=RuntimeError):
        mnist.train_dataloader()
    mnist.setup("fit")
    before = mnist.val_dataloader().dataset
    mnist.setup("validate")
    assert mnist.val_dataloader().dataset is before


def test_local_files_may_be_compressed_anew(root: Path) -> None:
    name = "t10k-images-idx3-ubyte"
    packed = gzip.compress(idx_bytes(ARRAYS[name]), compresslevel=1, mtime=1)
    assert packed != (root / "mnist" / f"{name}.gz").read_bytes()
    (root / "mnist" / f"{name}.gz").write_bytes(packed)
    ready(root)


@pytest.mark.parametrize(
    ("name", "array", "parts"),
    [
        (
            "train-images-idx3-ubyte",
            np.zeros((11, 28, 28), np.uint8),
            ("(11, 28, 28)", "(12, 28, 28)"),
        ),
        (
            "train-images-idx3-ubyte",
            np.zeros((12, 32, 32), np.uint8),
            ("(12, 32, 32)", "(12, 28, 28)"),
        ),
        (
            "train-labels-idx1-ubyte",
            np.zeros(13, np.uint8),
            ("(13,)", "(12,)"),
        ),
        (
            "train-labels-idx1-ubyte",
            np.full(12, 10, np.uint8),
            ("label", 10, 0, 9),
        ),
    ],
)
def test_content_is_checked(root: Path, name: str, array: Any, parts: tuple[object, ...]) -> None:
    path = write_idx(root / "mnist" / f"{name}.gz", array)
    with refused(path, *parts, error=IDXFormatError):
        SmallMNIST(root).setup("fit")


@pytest.mark.parametrize("size", [0, -7, 3, 29, 56, 14.0, True, "28"])
def test_image_size_must_divide_28(size: Any) -> None:
    with refused("image_size", 28, "(1, 2, 4, 7, 14, 28)", repr(size)):
        MNISTDataModule(image_size=size)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"train_size": 55_001}, ("train_size", 1, 55000, 55001)),
        ({"by": "column"}, ("by", "'pixel'", "'row'", "'column'")),
        ({"by": "row", "permuted": True}, ("permuted=True", "by='pixel'", "by='row'")),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        MNISTDataModule(**arguments)


def test_published_facts() -> None:
    mnist = MNISTDataModule()
    assert (mnist.n_train, mnist.n_validation, mnist.n_test) == (55_000, 5_000, 10_000)
    assert (mnist.batch_size, mnist.eval_batch_size) == (100, 1000)


@pytest.mark.real_data
def test_real_files(real_data_root: Path) -> None:
    mnist = MNISTDataModule(real_data_root)
    mnist.prepare_data()
    packed = real_data_root / "mnist" / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else packed.with_suffix("").read_bytes()
    assert md5(content) == "6bbc9ace898e44ae57da46a324031adb"
    images, labels, val_images, val_labels = mnist.load_training()
    assert images.shape == (55_000, 28, 28)
    assert val_images.shape == (5_000, 28, 28)
    assert torch.cat([labels, val_labels]).bincount().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    raw = torch.frombuffer(bytearray(content[16:]), dtype=torch.uint8).reshape(60_000, 28, 28)
    assert torch.equal((val_images * 255).round().byte(), raw[55_000:])


@pytest.mark.real_data
def test_real_permuted_pixels(real_data_root: Path) -> None:
    mnist = MNISTDataModule(real_data_root, permuted=True, image_size=28)
    mnist.setup("test")
    sequences, labels = next(iter(mnist.test_dataloader()))
    assert len(mnist.test_dataloader()) == 10
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    plain, _ = mnist.load_test()
    order = np.random.RandomState(10).permutation(784)
    assert order[:4].tolist() == [237, 489, 68, 737]
    torch.testing.assert_close(sequences[..., 0], plain[:1000].reshape(1000, 784)[:, order], rtol=0, atol=0)
