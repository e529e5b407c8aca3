"""Labelled and unlabelled documents: choices, batches, and one long text for pre-training."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integer, check_integers
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.encoding import DocumentSet, WordRules, stratified_order
from lightning_advdrop.datamodules.loading import rank_and_world_size, whole_batches
from lightning_advdrop.datamodules.published import FolderDataModule
from lightning_advdrop.datamodules.text import END, PADDING, UNKNOWN, load_vectors
from lightning_advdrop.datamodules.text_batches import DocumentDataset, LengthBuckets, TextBatch
from lightning_advdrop.datamodules.text_files import Part
from lightning_advdrop.datamodules.text_module import TextDataModule
from lightning_advdrop.datamodules.tokenizing import Tokenizer

Task = Literal["classify", "pretrain"]
"""Purpose of the loaders."""


class DocumentDataModule(FolderDataModule, TextDataModule):
    """Labelled and unlabelled documents (Miyato, Dai & Goodfellow 2017, arXiv 1605.07725).

    A subclass implements ``read`` and ``fingerprint``. The documents are encoded once and kept in the folder of
    prepared data. Words that occur in one training document only, labelled or not, become the unknown word. Each
    document ends with an end token.

    With ``task="classify"`` batches are `TextBatch`, of the last ``max_tokens`` tokens of each document. Training
    batches come from a ``CombinedLoader`` as ``{"labelled": TextBatch, "unlabelled": TextBatch}``, without
    ``"unlabelled"`` if there are none. An epoch is one pass over the labelled documents, the unlabelled ones go on
    where the epoch before stopped. Their order is a function of ``seed`` and the epoch.

    With ``task="pretrain"`` batches are ``(tokens (T, B), targets (T, B))`` of `ContiguousBatches`: whole documents
    one behind the other in an order drawn with ``seed``, for training the labelled and the unlabelled ones.

    Args:
        root: Folder that holds the data set's own; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``,
            else ``data``.
        task: ``"classify"`` or ``"pretrain"``.
        reverse: Whether the text is read from its end, for the backward language model; needs ``task="pretrain"``.
        train_size: Use this many labelled documents for training, chosen by ``seed`` with the classes in their
            proportions, at least 1; ``None`` for all. A smaller choice is part of a larger one.
        unlabelled_size: The same for the unlabelled ones, at least 0.
        max_tokens: Classification: the last so many tokens of a document are read, the end token included, at least 1.
            Pre-training: steps of a batch.
        max_vocabulary: The most words, at least 1: the most frequent ones.
        batch_size: Documents in a training batch, or columns of text, at least 1.
        unlabelled_batch_size: Unlabelled documents beside them, at least 1; ``None`` for ``batch_size``.
        eval_batch_size: Documents or columns in a batch of validation, test and prediction, at least 1.
        vectors: File of pretrained vectors: a word and its numbers a line. ``None`` for none.
        num_workers: Worker processes of a loader, at least 0. 0 is the fastest as a rule.
        seed: Of the choices and the order, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range, or ``reverse`` is asked for with ``task="classify"``.

    Example:
        >>> class Nothing(DocumentDataModule):
        ...     folder_name = "nothing"
        ...     class_names = ("neg", "pos")
        ...
        ...     def read(self):
        ...         yield from ()
        ...
        ...     def fingerprint(self):
        ...         return {}
        >>> Nothing(max_tokens=200).num_classes
        2
    """

    class_names: ClassVar[tuple[str, ...] | None] = None
    """Names of the classes in the order of their labels; ``None`` where they have numbers only."""
    tokenizer: ClassVar[Tokenizer] = "punctuation"
    """Name of the way in which the documents are split into words: one of `TOKENIZERS`."""

    def __init__(
        self,
        root: str | Path | None = None,
        task: Task = "classify",
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
        super().__init__(root, cache=cache)
        if task not in ("classify", "pretrain"):
            raise ValueError(f"task must be 'classify' or 'pretrain', got {task!r}")
        if reverse and task != "pretrain":
            raise ValueError(
                f"reverse=True needs task='pretrain', got task={task!r}: a classifier reads both ways itself"
            )
        check_integers(1, optional=True, train_size=train_size, unlabelled_batch_size=unlabelled_batch_size)
        check_integers(0, optional=True, unlabelled_size=unlabelled_size)
        check_integers(1, max_tokens=max_tokens, max_vocabulary=max_vocabulary)
        check_integers(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_integers(0, num_workers=num_workers)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        self.task: Task = task
        self.reverse = reverse
        self.train_size = train_size
        self.unlabelled_size = unlabelled_size
        self.max_tokens = max_tokens
        self.max_vocabulary = max_vocabulary
        self.batch_size = batch_size
        self.unlabelled_batch_size = batch_size if unlabelled_batch_size is None else unlabelled_batch_size
        self.eval_batch_size = eval_batch_size
        self.vectors_file = None if vectors is None else Path(vectors).expanduser()
        self.num_workers = num_workers
        self.seed = seed
        self._sets: dict[Part, DocumentSet] = {}

    @property
    def word_rules(self) -> WordRules:
        """Which words the vocabulary gets: number 0 is the unknown word, 1 padding, 2 the end of a document."""
        return WordRules((UNKNOWN, PADDING, END), max_words=self.max_vocabulary, repeated=True)

    @property
    def padding_index(self) -> int:
        """Number of the word that fills up batches; after ``prepare_data``."""
        return self.vocabulary.index[PADDING]

    @property
    def num_classes(self) -> int:
        """Number of classes; where they have no names, after ``prepare_data``."""
        if self.class_names is not None:
            return len(self.class_names)
        parts = self.corpus.parts
        return 1 + int(max(parts["train"].labels.max(), parts["validation"].labels.max()))

    @cached_property
    def vectors(self) -> Tensor | None:
        """Pretrained vectors ``(V, D)``, zero for words that the file lacks; ``None`` if no file was named."""
        return None if self.vectors_file is None else load_vectors(self.vectors_file, self.vocabulary)

    def setup(self, stage: str | None = None) -> None:
        """Choose the documents that a stage needs, once; encode them if that has not been done.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all of them.

        Raises:
            ValueError: If ``stage`` is another one, or there are fewer documents than are asked for.
        """
        super().setup(stage)
        parts = self.corpus.parts
        if stage in ("fit", "validate", None) and "train" not in self._sets:
            order = stratified_order(parts["train"].labels, self.seed)
            self._sets["train"] = parts["train"].choose(_first("train_size", self.train_size, order))
            order = np.random.RandomState(self.seed).permutation(len(parts["unlabelled"]))
            chosen = _first("unlabelled_size", self.unlabelled_size, order)
            self._sets["unlabelled"] = parts["unlabelled"].choose(chosen)
            self._sets["validation"] = parts["validation"]
        if stage in ("test", "predict", None):
            self._sets["test"] = parts["test"]

    def train_dataloader(self) -> CombinedLoader | ContiguousBatches:
        """Return the loader of training batches; each process gets its own share."""
        labelled, unlabelled = self._set("train", "fit"), self._set("unlabelled", "fit")
        if self.task == "pretrain":
            documents = DocumentSet.concatenate(labelled, unlabelled)
            order = np.random.RandomState(self.seed).permutation(len(documents))
            return self._text(documents.choose(order), "batch_size")
        loaders = {"labelled": self._batches(labelled, self.batch_size)}
        if len(unlabelled):
            steps = len(loaders["labelled"])
            loaders["unlabelled"] = self._batches(unlabelled, self.unlabelled_batch_size, num_batches=steps)
        return CombinedLoader(loaders, "min_size")  # they are of equal length

    def val_dataloader(self) -> DataLoader[TextBatch] | ContiguousBatches:
        """Return the loader of validation batches: documents in the order of their lengths."""
        return self._eval_loader("validation", "validate")

    def test_dataloader(self) -> DataLoader[TextBatch] | ContiguousBatches:
        """Return the loader of test batches: documents in the order of their lengths."""
        return self._eval_loader("test", "test")

    def predict_dataloader(self) -> DataLoader[TextBatch]:
        """Return the loader of the test documents in their own order, labels included; raises for ``"pretrain"``."""
        if self.task == "pretrain":
            raise RuntimeError("predictions need task='classify', got task='pretrain'")
        documents = DocumentDataset(self._set("test", "predict"), self.max_tokens, self.padding_index)
        return whole_batches(documents, self.num_workers, batch_size=self.eval_batch_size)

    def _eval_loader(self, part: Part, stage: str) -> DataLoader[TextBatch] | ContiguousBatches:
        documents = self._set(part, stage)
        if self.task == "pretrain":
            return self._text(documents, "eval_batch_size")
        return self._batches(documents, self.eval_batch_size, shuffle=False)

    def _batches(
        self, documents: DocumentSet, batch_size: int, *, shuffle: bool = True, num_batches: int | None = None
    ) -> DataLoader[TextBatch]:
        """Return a loader of about equally long documents, the share of this process."""
        rank, world_size = rank_and_world_size(self.trainer)
        dataset = DocumentDataset(documents, self.max_tokens, self.padding_index)
        sampler = LengthBuckets(
            dataset.lengths,
            batch_size,
            shuffle=shuffle,
            num_batches=num_batches,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        return whole_batches(dataset, self.num_workers, batch_size=None, sampler=sampler)  # which makes the batches

    def _text(self, documents: DocumentSet, size: str) -> ContiguousBatches:
        """Return a loader of documents as one long text, one behind the other."""
        rank, world_size = rank_and_world_size(self.trainer)
        text = documents.joined()
        # Read from its end, a document follows its own end token, as in the backward layer of a classifier.
        text = text[::-1] if self.reverse else text
        return ContiguousBatches(
            text, getattr(self, size), self.max_tokens, rank=rank, world_size=world_size, size_argument=size
        )

    def _set(self, part: Part, stage: str) -> DocumentSet:
        if part not in self._sets:
            raise RuntimeError(f"The {part} data are not loaded: call setup({stage!r}) before asking for their loader")
        return self._sets[part]


def _first(name: str, size: int | None, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if size is not None and size > len(order):
        raise ValueError(f"{name} must be at most {len(order)}, the number of such documents, got {size}")
    return order[:size]
