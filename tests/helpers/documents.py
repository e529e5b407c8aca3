"""A data module of made-up documents, whose class is the kind of word that is most frequent in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_batches import UNLABELLED, TextBatch

SPECIALS = ("<unk>", "<pad>", "<eos>")
PADDING, END = 1, 2
NEUTRAL, MARKED = 6, 3


def words_of(classes: int) -> Vocabulary:
    """The special words, some that say nothing, and some for each class."""
    marked = [f"c{label}{number}" for label in range(classes) for number in range(MARKED)]
    words = [*SPECIALS, *(f"n{number}" for number in range(NEUTRAL)), *marked]
    return Vocabulary(words, [0, 0, *range(len(words), 2, -1)], unknown="<unk>")


def documents(number: int, classes: int = 2, seed: int = 0, longest: int = 12) -> TextBatch:
    """Documents with labels; they differ in length, and each ends with the end token."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (number,), generator=generator)
    lengths = torch.randint(6, longest + 1, (number,), generator=generator)
    neutral = torch.randint(NEUTRAL, (number, longest), generator=generator) + len(SPECIALS)
    marked = torch.randint(MARKED, (number, longest), generator=generator) + len(SPECIALS) + NEUTRAL
    marked += MARKED * labels.unsqueeze(1)
    tokens = torch.where(torch.rand(number, longest, generator=generator) < 0.5, marked, neutral)
    steps = torch.arange(longest)
    tokens[steps == (lengths - 1).unsqueeze(1)] = END
    tokens[steps >= lengths.unsqueeze(1)] = PADDING
    return TextBatch(tokens, lengths, labels)


def unlabelled(batch: TextBatch) -> TextBatch:
    return batch._replace(labels=torch.full_like(batch.labels, UNLABELLED))


def cut(batch: TextBatch, size: int) -> list[TextBatch]:
    """Batches of ``size`` documents, each padded to its own longest."""
    parts = zip(*(torch.split(part, size) for part in batch), strict=True)
    return [TextBatch(t[:, : int(n.max())], n, y) for t, n, y in parts]


def loader(batches: Sequence[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class Documents(L.LightningDataModule):
    """What a data module of documents offers to the text tasks."""

    def __init__(
        self,
        classes: int = 2,
        *,
        task: str = "classify",
        reverse: bool = False,
        train_size: int = 64,
        unlabelled_size: int = 64,
        batch_size: int = 16,
        vectors: Tensor | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = classes
        self.task = task
        self.reverse = reverse
        self.batch_size = batch_size
        self.vectors = vectors
        self.vocabulary = words_of(classes) if vocabulary is None else vocabulary
        self.padding_index, self.max_tokens, self.tokenizer = PADDING, 10, "blanks"
        self.class_names = ("negative", "positive") if classes == 2 else None
        self.labelled = documents(train_size, classes)
        self.unlabelled = unlabelled(documents(unlabelled_size, classes, seed=1)) if unlabelled_size else None
        self.held_out = documents(64, classes, seed=2)

    def train_dataloader(self) -> Any:
        if self.task == "pretrain":
            return loader(list(self.contiguous()))
        parts = {"labelled": loader(cut(self.labelled, self.batch_size))}
        if self.unlabelled is not None:
            parts["unlabelled"] = loader(cut(self.unlabelled, self.batch_size))
        return CombinedLoader(parts, "max_size_cycle")

    def val_dataloader(self) -> Any:
        return loader(list(self.contiguous()) if self.task == "pretrain" else cut(self.held_out, 32))

    test_dataloader = predict_dataloader = val_dataloader

    def contiguous(self, steps: int = 7, rows: int = 4) -> Iterable[tuple[Tensor, Tensor]]:
        """All documents one after the other, ``(T, B)`` at a time."""
        parts = [self.labelled] if self.unlabelled is None else [self.labelled, self.unlabelled]
        text = torch.cat([row[:n] for part in parts for row, n in zip(part.tokens, part.lengths, strict=True)])
        text = text.flip(0) if self.reverse else text
        columns = text[: len(text) // rows * rows].view(rows, -1).t()
        for start in range(0, len(columns) - steps - 1, steps):
            yield columns[start : start + steps], columns[start + 1 : start + steps + 1]
