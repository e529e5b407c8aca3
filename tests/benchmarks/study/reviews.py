"""Reviews of IMDB as a pre-trained Transformer reads them."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightning as L
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from lightning_advdrop import IMDBDataModule
from tests.benchmarks.study.models import weights_folder

TOKENS = 32
_VALIDATION, _TEST, _EVALUATED = 500, 2000, 100
_TEST_SEED = 2019


class Reviews(L.LightningDataModule):
    """Reviews with their last 32 tokens: a fixed choice of 2,000 for the test, others by each seed for the rest.

    Args:
        n_train: reviews to train on; 500 more are for validation.
        batch_size: of training.
        seed: of the choice, and of the order.
    """

    def __init__(self, n_train: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self.n_train, self.batch_size, self.seed = n_train, batch_size, seed

    def setup(self, stage: str) -> None:
        """Read, choose and encode reviews."""
        train, train_labels = read("train")
        test, test_labels = read("test")
        chosen, others = train_test_split(
            range(len(train)),
            train_size=self.n_train,
            test_size=_VALIDATION,
            stratify=train_labels,
            random_state=self.seed,
        )
        tested = train_test_split(range(len(test)), train_size=_TEST, stratify=test_labels, random_state=_TEST_SEED)[0]
        self.parts = {
            "train": Encoded([train[each] for each in chosen], [train_labels[each] for each in chosen]),
            "val": Encoded([train[each] for each in others], [train_labels[each] for each in others]),
            "test": Encoded([test[each] for each in tested], [test_labels[each] for each in tested]),
        }

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return shuffled batches."""
        order = torch.Generator().manual_seed(self.seed)
        return self._loader("train", self.batch_size, shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches for validation."""
        return self._loader("val", _EVALUATED)

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches for the test."""
        return self._loader("test", _EVALUATED)

    def _loader(self, part: str, batch_size: int, **how: Any) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.parts[part], batch_size, collate_fn=default_convert, **how)


class Encoded(Dataset[dict[str, Tensor]]):
    """Texts as token indices, all of the same length.

    Args:
        texts: the texts.
        labels: of the texts.
    """

    def __init__(self, texts: list[str], labels: list[int]) -> None:
        from transformers import AutoTokenizer

        # Reviews end with what they come to.
        tokenizer = AutoTokenizer.from_pretrained(weights_folder(), truncation_side="left")
        found = tokenizer(texts, truncation=True, padding="max_length", max_length=TOKENS, return_tensors="pt")
        self.columns = {
            **{name: found[name] for name in ("input_ids", "attention_mask")},
            "labels": torch.tensor(labels),
        }

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitems__(self, numbers: list[int]) -> dict[str, Tensor]:
        """Return a batch."""
        return {name: each[numbers] for name, each in self.columns.items()}


@cache
def read(part: str) -> tuple[list[str], list[int]]:
    """Read the texts of a part, in the order of their names, and their labels.

    Args:
        part: ``train`` or ``test``.
    """
    found = sorted((str(each.key), each) for each in IMDBDataModule().read() if each.part == part and each.label >= 0)
    return [" ".join(each.words) for _, each in found], [each.label for _, each in found]
