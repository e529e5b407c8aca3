"""The digits that ship with scikit-learn: data that need no download."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_advdrop._extras import needed
from lightning_advdrop.datamodules.sequences import SequenceImageDataModule

_SIDE = 8
_MAX_VALUE = 16.0
_N_TRAIN, _N_VALIDATION = 1_297, 200
# Not the user's seed: all seeds are evaluated on the same images.
_SPLIT_SEED = 0


class DigitsDataModule(SequenceImageDataModule):
    """Handwritten digits of 8x8 pixels, as sequences; needs no download.

    The 1,797 images of :func:`sklearn.datasets.load_digits` (Alpaydin & Kaynak 1998, UCI repository, "Optical
    recognition of handwritten digits"), split in 1,297 for training, 200 for validation and 300 for test by one fixed
    shuffle. They are read like sequential MNIST (Le, Jaitly & Hinton 2015, arXiv 1504.00941). Batches are sequences
    ``(B, num_steps, input_size)`` of dtype ``float32`` in [0, 1] and labels ``(B,)`` of dtype ``int64`` from 0 to 9.

    Args:
        by: ``"pixel"``: 64 steps of 1 feature; ``"row"``: 8 steps of 8 features.
        train_size: Number of training images, drawn with ``seed``, from 1 to 1,297; ``None`` for all.
        **arguments: ``num_workers`` and ``seed`` of `SequenceImageDataModule`; ``permuted``, ``batch_size``,
            ``eval_batch_size`` and the errors are its, too.

    Example:
        >>> digits = DigitsDataModule(by="row")
        >>> digits.setup("fit")
        >>> sequences, labels = next(iter(digits.train_dataloader()))
        >>> sequences.shape, labels.shape
        (torch.Size([50, 8, 8]), torch.Size([50]))
    """

    def __init__(
        self,
        by: Literal["pixel", "row"] = "pixel",
        permuted: bool = False,
        train_size: int | None = None,
        batch_size: int = 50,
        eval_batch_size: int = 500,
        **arguments: Any,
    ) -> None:
        super().__init__(
            side=_SIDE,
            n_train=_N_TRAIN,
            by=by,
            permuted=permuted,
            train_size=train_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            **arguments,
        )

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load training images ``(1297, 8, 8)`` and labels ``(1297,)``, then 200 of each for validation."""
        images, labels = _load_shuffled()
        train, val = slice(_N_TRAIN), slice(_N_TRAIN, _N_TRAIN + _N_VALIDATION)
        return images[train], labels[train], images[val], labels[val]

    def load_test(self) -> tuple[Tensor, Tensor]:
        """Load test images ``(300, 8, 8)`` and labels ``(300,)``."""
        images, labels = _load_shuffled()
        return images[_N_TRAIN + _N_VALIDATION :], labels[_N_TRAIN + _N_VALIDATION :]


def _load_shuffled() -> tuple[Tensor, Tensor]:
    with needed("DigitsDataModule"):  # imported here: it takes a second
        from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(digits.target))
    images = torch.from_numpy(digits.images[order]).float() / _MAX_VALUE  # (N, 8, 8)
    return images, torch.from_numpy(digits.target[order]).long()
