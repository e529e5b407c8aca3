"""What the data modules of labelled documents share: preparation, splits, batches."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from lightning import LightningDataModule
from torch import Tensor

from lightning_advdrop.datamodules.text_batches import TextBatch

if TYPE_CHECKING:
    from lightning_advdrop.datamodules.text import Vocabulary


class DocumentDataModule(LightningDataModule, ABC):
    """Labelled and unlabelled documents: the interface, to be filled in.

    Loaders with ``task="classify"``: training a ``CombinedLoader`` of ``{"labelled": TextBatch, "unlabelled":
    TextBatch}`` (only ``"labelled"`` where ``unlabelled_size=0`` or there are no unlabelled documents), whose epoch is
    one pass over the labelled documents; validation, test and prediction `TextBatch`. With ``task="pretrain"``:
    ``(tokens (T, B), targets (T, B))`` of `ContiguousBatches` for training (labelled and unlabelled documents),
    validation and test.
    """

    class_names: ClassVar[tuple[str, ...] | None] = None
    """Names of the classes in the order of their labels; ``None`` where they have numbers only."""

    def __init__(
        self,
        root: str | Path | None = None,
        task: Literal["classify", "pretrain"] = "classify",
        reverse: bool = False,
        train_size: int | None = None,
        unlabelled_size: int | None = None,
        max_tokens: int = 400,
        max_vocabulary: int = 100_000,
        *,
        batch_size: int = 64,
        unlabelled_batch_size: int | None = None,
        eval_batch_size: int = 256,
        vectors: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__()

    @property
    def vocabulary(self) -> Vocabulary:
        """Words with their counts; number 0 is unknown, 1 padding, 2 the end of a document. After ``prepare_data``."""
        raise NotImplementedError

    @property
    def padding_index(self) -> int:
        """Number of the word that fills up batches."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """Number of classes; after ``prepare_data`` where the data tell it."""
        raise NotImplementedError

    @property
    def vectors(self) -> Tensor | None:
        """Pretrained vectors ``(V, D)``, zero where the file has no vector for a word; ``None`` if none were named."""
        raise NotImplementedError


def encode_documents(texts: Sequence[str], vocabulary: Vocabulary, max_tokens: int | None = 400) -> TextBatch:
    """Tokenise and number raw texts as the data modules do it; labels are `UNLABELLED`. For ``predict`` on strings."""
    raise NotImplementedError
