"""Base of the data modules of labelled and unlabelled documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop.datamodules.checks import check_integers
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.encoding import Corpus, DocumentSet, WordRules, stratified_order
from lightning_advdrop.datamodules.loading import batches_used_by, rank_and_world_size, whole_batches
from lightning_advdrop.datamodules.published import FolderDataModule
from lightning_advdrop.datamodules.text import END, PADDING, UNKNOWN, Tokenizer
from lightning_advdrop.datamodules.text_batches import UNLABELLED, DocumentDataset, LengthBuckets, TextBatch
from lightning_advdrop.datamodules.text_files import DocumentError, Part
from lightning_advdrop.datamodules.text_module import TextDataModule
from lightning_advdrop.datamodules.vectors import load_vectors

Task = Literal["classify", "pretrain"]
"""Task that the batches are for."""


class DocumentDataModule(FolderDataModule, TextDataModule):
    """Labelled and unlabelled documents (Miyato, Dai & Goodfellow 2017, arXiv 1605.07725).

    A subclass implements ``read``, and ``find_files`` or ``fingerprint``. Documents are encoded once and kept in the
    folder of prepared data. Words that occur in a single training document, labelled or not, are replaced by the
    unknown word. Each document ends with an end token.

    With ``task="classify"`` a batch is a `TextBatch` of the last ``max_tokens`` tokens of each document. Training
    batches come from a ``CombinedLoader`` as ``{"labelled": TextBatch, "unlabelled": TextBatch}``, without
    ``"unlabelled"`` if there are none. An epoch is one pass over the labelled documents; the unlabelled ones continue
    where the previous epoch stopped. Their order is a function of ``seed`` and the epoch.

    With ``task="pretrain"`` a batch is ``(tokens (T, B), targets (T, B))`` from `ContiguousBatches`: whole documents,
    concatenated in an order drawn with ``seed``; for training, labelled and unlabelled ones.

    Args:
        task: ``"classify"`` or ``"pretrain"``.
        reverse: Whether to read the text backwards, for the backward language model; needs ``task="pretrain"``.
        train_size: Number of labelled training documents, drawn with ``seed`` in the proportions of the classes, at
            least 1; ``None`` for all. A smaller draw is a subset of a larger one.
        unlabelled_size: Number of unlabelled documents, at least 0; ``None`` for all.
        max_tokens: Classification: keep the last ``max_tokens`` tokens of a document, end token included, at least 1.
            Pre-training: steps of a batch.
        max_vocabulary: Most words of the vocabulary, at least 1; the most frequent ones are kept.
        batch_size: Documents, or columns of text, in a training batch, at least 1.
        unlabelled_batch_size: Unlabelled documents in a training batch, at least 1; ``None`` for ``batch_size``.
        eval_batch_size: Documents or columns in a batch of validation, test and prediction, at least 1.
        vectors: File of pretrained word vectors, one a line: a word and its numbers. ``None`` for none.
        num_workers: Worker processes of a loader, at least 0; 0 is usually the fastest.
        **arguments: ``seed`` and ``cache`` of `TextDataModule`; ``root`` is that of `FolderDataModule`.

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
    """Names of the classes in the order of their labels; ``None`` if they have none."""
    n_documents: ClassVar[Mapping[Part, Sequence[int]] | None] = None
    """Expected number of documents of each class, by part; of unlabelled ones a single number. Documents held out for
    validation count as training ones, unless ``"validation"`` is named. ``None`` for any."""
    tokenizer: ClassVar[Tokenizer] = "punctuation"
    """Name of the function that splits documents into words: a key of `TOKENIZERS`. ``read`` and the classifier use it,
    and other names get prepared data of their own."""

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
        **arguments: Any,
    ) -> None:
        super().__init__(root, **arguments)
        if task not in ("classify", "pretrain"):
            raise ValueError(f"task must be 'classify' or 'pretrain', got {task!r}")
        if reverse and task != "pretrain":
            raise ValueError(f"reverse=True needs task='pretrain', got task={task!r}")
        check_integers(1, optional=True, train_size=train_size, unlabelled_batch_size=unlabelled_batch_size)
        check_integers(0, optional=True, unlabelled_size=unlabelled_size)
        check_integers(1, max_tokens=max_tokens, max_vocabulary=max_vocabulary)
        check_integers(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_integers(0, num_workers=num_workers)
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
        self._sets: dict[Part, DocumentSet] = {}

    @property
    def word_rules(self) -> WordRules:
        """Rules for the vocabulary: index 0 is the unknown word, 1 padding, 2 the end of a document."""
        return WordRules((UNKNOWN, PADDING, END), max_words=self.max_vocabulary, repeated=True)

    def _settings(self) -> dict[str, Any]:
        """Return all that the encoded texts depend on: how they are split and how many there must be, too."""
        return super()._settings() | {"tokenizer": self.tokenizer, "n_documents": self.n_documents}

    def check_corpus(self, corpus: Corpus) -> None:
        """Check the numbers of documents; raise `DocumentError` if they are not those of ``n_documents``."""
        published, names = self.n_documents or {}, dict(enumerate(self.class_names or ()))
        for part, expected in published.items():
            counted: list[Part] = [part, "validation"] if part == "train" and "validation" not in published else [part]
            found = Counter(label for name in counted for label in corpus.parts[name].labels.tolist())
            labels = [UNLABELLED] if part == "unlabelled" else range(max(len(expected), 1 + max(found, default=0)))
            for label, count in zip_longest(labels, expected, fillvalue=0):
                if found[label] != count:
                    of_class = "" if label == UNLABELLED else f" of the class {names.get(label, label)}"
                    raise DocumentError(
                        f"{self.folder} does not hold the whole {self.title}: found {found[label]:,} documents for"
                        f" {part}{of_class}, expected {count:,}; put the published files in their place,"
                        " or set n_documents in a subclass"
                    )

    @property
    def padding_index(self) -> int:
        """Index of the padding word; after ``prepare_data``."""
        return self.vocabulary.index[PADDING]

    @property
    def num_classes(self) -> int:
        """Number of classes; if they have no names, after ``prepare_data``."""
        if self.class_names is not None:
            return len(self.class_names)
        parts = self.corpus.parts
        return 1 + int(max(parts["train"].labels.max(), parts["validation"].labels.max()))

    @cached_property
    def vectors(self) -> Tensor | None:
        """Pretrained vectors ``(V, D)``, zero for words missing from the file; ``None`` without a file."""
        return None if self.vectors_file is None else load_vectors(self.vectors_file, self.vocabulary)

    def setup(self, stage: str | None = None) -> None:
        """Select the documents of a stage; encode them first, if that has not been done.

        Raises:
            ValueError: If ``stage`` is none of Lightning's, or there are fewer documents than asked for.
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
        """Return the loader of training batches: the share of this process."""
        labelled, unlabelled = self._set("train", "fit"), self._set("unlabelled", "fit")
        if self.task == "pretrain":
            documents = labelled + unlabelled
            order = np.random.RandomState(self.seed).permutation(len(documents))
            return self._text(documents.choose(order), "batch_size")
        loaders = {"labelled": self._batches(labelled, self.batch_size)}
        if len(unlabelled):
            steps = len(loaders["labelled"])
            loaders["unlabelled"] = self._batches(unlabelled, self.unlabelled_batch_size, num_batches=steps)
        return CombinedLoader(loaders, "min_size")  # both have equally many batches

    def val_dataloader(self) -> DataLoader[TextBatch] | ContiguousBatches:
        """Return the loader of validation batches, sorted by length."""
        return self._eval_loader("validation", "validate")

    def test_dataloader(self) -> DataLoader[TextBatch] | ContiguousBatches:
        """Return the loader of test batches, sorted by length."""
        return self._eval_loader("test", "test")

    def predict_dataloader(self) -> DataLoader[TextBatch]:
        """Return the loader of the test documents, labels included, in their order; ``RuntimeError`` to pretrain."""
        if self.task == "pretrain":
            raise RuntimeError("predictions need task='classify', got task='pretrain'")
        documents = self._set("test", "predict").shortened(self.max_tokens)
        dataset = DocumentDataset(documents, self.padding_index)
        return whole_batches(dataset, self.num_workers, batch_size=self.eval_batch_size)

    def _eval_loader(self, part: Part, stage: str) -> DataLoader[TextBatch] | ContiguousBatches:
        documents = self._set(part, stage)
        if self.task == "pretrain":
            return self._text(documents, "eval_batch_size")
        return self._batches(documents, self.eval_batch_size, shuffle=False)

    def _batches(self, documents: DocumentSet, batch_size: int, **arguments: Any) -> DataLoader[TextBatch]:
        """Return a loader of batches of similar length: the share of this process."""
        documents = documents.shortened(self.max_tokens)
        rank, world_size = rank_and_world_size(self.trainer)
        sampler = LengthBuckets(
            documents.lengths, batch_size, seed=self.seed, rank=rank, world_size=world_size, **arguments
        )
        dataset = DocumentDataset(documents, self.padding_index)
        used = batches_used_by(self.trainer)
        # The sampler batches.
        return whole_batches(dataset, self.num_workers, batch_size=None, sampler=sampler, used_batches=used)

    def _text(self, documents: DocumentSet, size: str) -> ContiguousBatches:
        """Return a loader of all documents as one long text."""
        rank, world_size = rank_and_world_size(self.trainer)
        text = documents.joined()
        # Backwards, a document follows its own end token, as in the backward layer of a classifier.
        text = text[::-1] if self.reverse else text
        return ContiguousBatches(
            text,
            getattr(self, size),
            self.max_tokens,
            rank=rank,
            world_size=world_size,
            size_argument=size,
            made_by={"data.seed": self.seed, "reverse": self.reverse},
        )

    def _set(self, part: Part, stage: str) -> DocumentSet:
        if part not in self._sets:
            raise RuntimeError(f"The {part} data are not loaded: call setup({stage!r}) before asking for their loader")
        return self._sets[part]


def _first(name: str, size: int | None, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if size is not None and size > len(order):
        raise ValueError(f"{name} must be at most {len(order)}, the number of such documents, got {size}")
    return order[:size]
