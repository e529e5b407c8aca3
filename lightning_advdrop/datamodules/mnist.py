"""Sequential and permuted sequential MNIST."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.datamodules.idx import IDXFormatError, find_idx, read_idx
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.sequences import SequenceImageDataModule

_SIDE = 28
_MAX_VALUE = 255.0
_SIZES = tuple(size for size in range(1, _SIDE + 1) if _SIDE % size == 0)


class MNISTDataModule(PublishedDataModule, SequenceImageDataModule):
    """MNIST as sequences: 784 steps of one pixel, or 28 steps of one row.

    The data are those of LeCun, Bottou, Bengio & Haffner (1998, "Gradient-based learning applied to document
    recognition"), the task that of Le, Jaitly & Hinton (2015, arXiv 1504.00941). Of the 60,000 training images the
    first 55,000 are for training and the last 5,000 for validation; there are 10,000 test images. Batches are sequences
    ``(B, num_steps, input_size)`` of dtype ``float32`` in [0, 1] and labels ``(B,)`` of dtype ``int64`` from 0 to 9.

    The files are ``<root>/mnist/train-images-idx3-ubyte`` and its three siblings, plain or compressed (``.gz``); plain
    ones are preferred.

    Args:
        by: ``"pixel"``: ``image_size ** 2`` steps of 1 feature; ``"row"``: ``image_size`` steps of ``image_size``
            features.
        image_size: Height and width to which images are averaged: a divisor of 28.
        train_size: Number of training images, drawn with ``seed``, from 1 to 55,000; ``None`` for all.
        **arguments: ``download`` and ``mirrors`` of `PublishedDataModule`, others of `SequenceImageDataModule`;
            ``root``, ``permuted`` and the errors are theirs, too.

    Example:
        >>> mnist = MNISTDataModule(by="pixel", permuted=True, image_size=14)
        >>> mnist.num_steps, mnist.input_size, mnist.num_classes
        (196, 1, 10)
    """

    title = "MNIST"
    folder_name = "mnist"
    alternative = " (with or without .gz)"
    published_mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    n_train: ClassVar[int] = 55_000
    """Images for training: the first ones of the training files."""
    n_validation: ClassVar[int] = 5_000
    """Images for validation: the last ones of the training files."""
    n_test: ClassVar[int] = 10_000
    """Images for test."""
    checksums: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(
        self,
        root: str | Path | None = None,
        by: Literal["pixel", "row"] = "pixel",
        permuted: bool = False,
        image_size: int = _SIDE,
        train_size: int | None = None,
        **arguments: Any,
    ) -> None:
        if type(image_size) is not int or image_size not in _SIZES:
            raise ValueError(f"image_size must be a divisor of {_SIDE}, one of {_SIZES}, got {image_size!r}")
        super().__init__(
            root,
            side=image_size,
            n_train=self.n_train,
            by=by,
            permuted=permuted,
            train_size=train_size,
            **arguments,
        )

    def find_files(self) -> list[Path]:
        """Return the paths of the four files: the plain one, if it exists, or the compressed one."""
        return [find_idx(self.folder, name.removesuffix(".gz")) or self.folder / name for name in self.checksums]

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load training images and labels, then validation images and labels.

        Returns:
            Images ``(55000, image_size, image_size)``, labels ``(55000,)``, and 5,000 of each.

        Raises:
            FileNotFoundError: If files are missing.
            IDXFormatError: If a file does not hold what it should.
        """
        images, labels = self._load("train", self.n_train + self.n_validation)
        return images[: self.n_train], labels[: self.n_train], images[self.n_train :], labels[self.n_train :]

    def load_test(self) -> tuple[Tensor, Tensor]:
        """Load test images ``(10000, image_size, image_size)`` and labels ``(10000,)``.

        Raises:
            FileNotFoundError: If files are missing.
            IDXFormatError: If a file does not hold what it should.
        """
        return self._load("t10k", self.n_test)

    def _load(self, part: Literal["train", "t10k"], count: int) -> tuple[Tensor, Tensor]:
        self.require_files()
        images = self._read(f"{part}-images-idx3-ubyte", (count, _SIDE, _SIDE))
        labels = self._read(f"{part}-labels-idx1-ubyte", (count,))
        largest = int(labels.max())
        if largest >= self.num_classes:
            path = find_idx(self.folder, f"{part}-labels-idx1-ubyte")
            raise IDXFormatError(
                f"{path} has a wrong label: found {largest}, expected 0 to 9; delete the file and download it again"
            )
        scaled = images.float().div_(_MAX_VALUE)  # (N, 28, 28)
        if self.side != _SIDE:
            scaled = F.adaptive_avg_pool2d(scaled, self.side)  # (N, side, side)
        return scaled, labels.long()

    def _read(self, name: str, sizes: tuple[int, ...]) -> Tensor:
        path = find_idx(self.folder, name) or self.folder / name
        content = read_idx(path, dimensions=len(sizes))
        if tuple(content.shape) != sizes:
            raise IDXFormatError(
                f"{path} has wrong sizes: found {tuple(content.shape)}, expected {sizes}; put the published file in its"
                " place"
            )
        return content
