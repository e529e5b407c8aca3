"""Real time series, cut into training, validation and test examples."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, default_convert

from lightning_advdrop.datamodules.sequences import SequenceDataset

# Half of each data set is test data, the same for all seeds.
_TEST_SEED = 2019
_EVALUATED = 512


class Series(L.LightningDataModule):
    """Labelled series of one data set.

    A fixed half is test data. The other half is shuffled by the seed, so that a fresh seed has other training data, and
    is divided into training and validation data. All parts have the classes in equal shares. Each feature is scaled by
    the mean and deviation of the training data.

    Args:
        name: of the data set, as its package calls it.
        n_train: examples to train on; all others of the half are for validation.
        patch: values of a series that make up one time step.
        batch_size: of training.
        seed: of the division, and of the order.
    """

    def __init__(self, name: str, n_train: int, patch: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self.series, self.n_train, self.patch = name, n_train, patch
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage: str) -> None:
        """Read and divide the data."""
        series, labels = read(self.series, self.patch)
        rest, test = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=_TEST_SEED)
        train, val = train_test_split(
            rest, train_size=self.n_train, stratify=labels[rest], random_state=self.seed, shuffle=True
        )
        center, scale = series[train].mean((0, 1)), series[train].std((0, 1))
        scaled = (series - center) / scale.clamp_min(1e-6)
        self.parts = {
            part: SequenceDataset(scaled[where], labels[where])
            for part, where in (("train", train), ("val", val), ("test", test))
        }

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return shuffled batches."""
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.parts["train"], self.batch_size, shuffle=True, generator=order, collate_fn=default_convert
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return batches for validation."""
        return DataLoader(self.parts["val"], _EVALUATED, collate_fn=default_convert)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return batches for the test."""
        return DataLoader(self.parts["test"], _EVALUATED, collate_fn=default_convert)


def read(name: str, patch: int) -> tuple[Tensor, Tensor]:
    """Read all examples of a data set.

    Args:
        name: ``digits`` for scikit-learn's images by rows; else what the package aeon calls it, of those in its wheel.
        patch: values of a series that make up one time step.

    Returns:
        Series ``(N, T, features * patch)``, at whose start shorter ones have zeros, and labels ``(N,)`` from 0 on.
    """
    examples, names = _digits() if name == "digits" else _aeon(name)
    longest = -(-max(each.shape[-1] for each in examples) // patch) * patch
    series = np.zeros((len(examples), examples[0].shape[0], longest), np.float32)
    for place, each in enumerate(examples):
        series[place, :, longest - each.shape[-1] :] = each
    steps = series.reshape(*series.shape[:2], -1, patch).transpose(0, 2, 1, 3)
    labels = np.unique(names, return_inverse=True)[1]
    return torch.from_numpy(steps.reshape(len(steps), steps.shape[1], -1).copy()), torch.from_numpy(labels)


def _digits() -> tuple[list[np.ndarray], np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return [*(found.images.transpose(0, 2, 1) / 16).astype(np.float32)], found.target


def _aeon(name: str) -> tuple[list[np.ndarray], np.ndarray]:
    try:
        from aeon.datasets import load_classification
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} comes with the package aeon, which is missing; install it by: pip install 'aeon>=1.6'"
        ) from error
    series, labels = load_classification(name)
    return [*series], labels
