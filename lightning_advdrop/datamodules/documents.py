"""What the data modules of labelled documents share: preparation, splits, batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from lightning import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.document_files import Document
from lightning_advdrop.datamodules.document_loaders import DocumentLoaders
from lightning_advdrop.datamodules.document_store import (
    FORMAT,
    PADDING,
    DocumentSet,
    build_store,
    load_vocabulary,
    stratified_order,
)
from lightning_advdrop.datamodules.roots import data_root
from lightning_advdrop.datamodules.sequences import MAX_SEED, check_integer
from lightning_advdrop.datamodules.text import Vocabulary, load_vectors
from lightning_advdrop.datamodules.text_batches import TextBatch
from lightning_advdrop.datamodules.tokenizing import Tokenizer

Task = Literal["classify", "pretrain"]
"""What the loaders are for."""


class DocumentDataModule(LightningDataModule, ABC):
    """Labelled and unlabelled documents (Miyato, Dai & Goodfellow 2017, arXiv 1605.07725).

    The documents are read, split into words and numbered once. The result lies in the folder of prepared data, under
    a name made from the content of the files and the settings that matter, and is used from there. Words of one
    document only become the unknown word. Each document ends with an end token.

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

    folder_name: ClassVar[str]
    """Name of the data set's folder below ``root``."""
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
        super().__init__()
        if task not in ("classify", "pretrain"):
            raise ValueError(f"task must be 'classify' or 'pretrain', got {task!r}")
        if reverse and task != "pretrain":
            raise ValueError(
                f"reverse=True needs task='pretrain', got task={task!r}: a classifier reads both ways itself"
            )
        unlabelled_batch_size = batch_size if unlabelled_batch_size is None else unlabelled_batch_size
        for name, value, low in (
            ("train_size", 1 if train_size is None else train_size, 1),
            ("unlabelled_size", 0 if unlabelled_size is None else unlabelled_size, 0),
            ("max_tokens", max_tokens, 1),
            ("max_vocabulary", max_vocabulary, 1),
            ("batch_size", batch_size, 1),
            ("unlabelled_batch_size", unlabelled_batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            check_integer(name, value, low)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        self.root = data_root(root)
        self.task: Task = task
        self.reverse = reverse
        self.train_size = train_size
        self.unlabelled_size = unlabelled_size
        self.max_tokens = max_tokens
        self.max_vocabulary = max_vocabulary
        self.batch_size = batch_size
        self.unlabelled_batch_size = unlabelled_batch_size
        self.eval_batch_size = eval_batch_size
        self.vectors_file = None if vectors is None else Path(vectors).expanduser()
        self.num_workers = num_workers
        self.seed = seed
        self.cache = cache
        self._store: Path | None = None
        self._vocabulary: Vocabulary | None = None
        self._sets: dict[str, DocumentSet] = {}

    @property
    def folder(self) -> Path:
        """Folder of the data set's files."""
        return self.root / self.folder_name

    @abstractmethod
    def read(self) -> Iterator[Document]:
        """Read all documents of the published files, in any order.

        Raises:
            FileNotFoundError: If files are missing.
            DocumentError: If a file does not hold what it should.
        """

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Return what tells the content of the files from another, in plain types.

        Raises:
            FileNotFoundError: If files are missing.
        """

    @property
    def vocabulary(self) -> Vocabulary:
        """The words and how often they occur in the training documents, labelled or not; after ``prepare_data``.

        Number 0 is the unknown word, 1 padding, 2 the end of a document.

        Raises:
            RuntimeError: If the data are not prepared.
        """
        if self._vocabulary is None:
            self._vocabulary = load_vocabulary(self._prepared())
        return self._vocabulary

    @property
    def padding_index(self) -> int:
        """Number of the word that fills up batches; after ``prepare_data``."""
        return self.vocabulary.index[PADDING]

    @property
    def num_classes(self) -> int:
        """Number of classes; where they have no names, after ``prepare_data``."""
        if self.class_names is not None:
            return len(self.class_names)
        return 1 + max(int(DocumentSet.load(self._prepared(), part).labels.max()) for part in ("train", "validation"))

    @cached_property
    def vectors(self) -> Tensor | None:
        """Pretrained vectors ``(V, D)``, zero for words that the file lacks; ``None`` if no file was named."""
        return None if self.vectors_file is None else load_vectors(self.vectors_file, self.vocabulary)

    def prepare_data(self) -> None:
        """Encode the documents, unless that has been done.

        Several processes may do this at the same time: one works, the others wait.

        Raises:
            FileNotFoundError: If files are missing.
            DocumentError: If a file does not hold what it should; it names file and line.
        """
        settings = {"format": FORMAT, "max_vocabulary": self.max_vocabulary, "data": dict(self.fingerprint())}

        def build(folder: Path) -> None:
            build_store(self.read(), folder, self.max_vocabulary, type(self).__name__)

        self._store = cached(settings | {"name": type(self).__name__}, build, folder=self.cache)

    def setup(self, stage: str | None = None) -> None:
        """Open what a stage needs, once; encode the documents if that has not been done.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all of them.

        Raises:
            ValueError: If ``stage`` is another one, or there are fewer documents than are asked for.
        """
        if stage not in ("fit", "validate", "test", "predict", None):
            raise ValueError(f"stage must be 'fit', 'validate', 'test', 'predict' or None, got {stage!r}")
        if self._store is None:
            self.prepare_data()
        store = self._prepared()
        if stage in ("fit", "validate", None) and "train" not in self._sets:
            train, unlabelled = DocumentSet.load(store, "train"), DocumentSet.load(store, "unlabelled")
            order = stratified_order(train.labels, self.seed)
            self._sets["train"] = train.choose(_first("train_size", self.train_size, order))
            order = np.random.RandomState(self.seed).permutation(len(unlabelled))
            self._sets["unlabelled"] = unlabelled.choose(_first("unlabelled_size", self.unlabelled_size, order))
            self._sets["validation"] = DocumentSet.load(store, "validation")
        if stage in ("test", "predict", None) and "test" not in self._sets:
            self._sets["test"] = DocumentSet.load(store, "test")

    def train_dataloader(self) -> CombinedLoader | ContiguousBatches:
        """Return the loader of training batches; each process gets its own share."""
        labelled, unlabelled = self._set("train", "fit"), self._set("unlabelled", "fit")
        if self.task == "pretrain":
            documents = DocumentSet.concatenate(labelled, unlabelled)
            order = np.random.RandomState(self.seed).permutation(len(documents))
            return self._loaders().text(documents.choose(order), self.batch_size)
        return self._loaders().combined(labelled, unlabelled, self.batch_size, self.unlabelled_batch_size)

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
        return self._loaders().in_order(self._set("test", "predict"), self.eval_batch_size)

    def _eval_loader(self, part: str, stage: str) -> DataLoader[TextBatch] | ContiguousBatches:
        documents = self._set(part, stage)
        if self.task == "pretrain":
            return self._loaders().text(documents, self.eval_batch_size, "eval_batch_size")
        return self._loaders().batches(documents, self.eval_batch_size, shuffle=False)

    def _loaders(self) -> DocumentLoaders:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DocumentLoaders(
            self.max_tokens, self.padding_index, self.reverse, self.seed, self.num_workers, rank, world_size
        )

    def _prepared(self) -> Path:
        if self._store is None:
            raise RuntimeError("The documents are not encoded: call prepare_data() before asking for them")
        return self._store

    def _set(self, part: str, stage: str) -> DocumentSet:
        if part not in self._sets:
            raise RuntimeError(f"The {part} data are not loaded: call setup({stage!r}) before asking for their loader")
        return self._sets[part]


def _first(name: str, size: int | None, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if size is not None and size > len(order):
        raise ValueError(f"{name} must be at most {len(order)}, the number of such documents, got {size}")
    return order[:size]
