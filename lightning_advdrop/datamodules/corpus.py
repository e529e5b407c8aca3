"""Base of the data modules of language models: running texts, read in contiguous batches."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from lightning import Trainer

from lightning_advdrop.datamodules.checks import check_integers
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.encoding import Corpus, WordRules
from lightning_advdrop.datamodules.limited import LimitedBatches
from lightning_advdrop.datamodules.loading import batches_used_by, processed, rank_and_world_size
from lightning_advdrop.datamodules.text import END, TEXT_TOKENIZERS, UNKNOWN, Tokens
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import Document, DocumentError, TextSource, checksum, read_words
from lightning_advdrop.datamodules.text_module import TextDataModule

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class CorpusDataModule(TextDataModule):
    r"""Three running texts for training, validation and test of a language model.

    A subclass implements ``find_files`` or :meth:`sources`. The vocabulary is that of the whole training text:
    ``<unk>``, ``<eos>``, then the words by frequency, ties in alphabetical order; ``<eos>`` ends each line. The encoded
    texts are kept in the folder of prepared data and read as memory maps.

    A batch is tokens ``(T, B)`` and targets ``(T, B)``, ``int64``, time first; the targets are the next tokens. Each
    column continues where it ended in the previous batch, so that a recurrent state can be carried over; it starts
    anew with each pass (Merity, Keskar & Socher 2018, arXiv 1708.02182). Training batches have random lengths, drawn
    from ``seed`` and the epoch, and each process reads ``batch_size`` columns of its own. Validation and test predict
    every word but the first, in batches of ``length`` steps; the last one may be padded with targets of ``-100``, which
    cross-entropy ignores. Every process reads these texts whole, so that results do not depend on their number.

    Args:
        batch_size: Columns of a training batch, at least 1.
        eval_batch_size: Columns of a validation batch, at least 1.
        test_batch_size: Columns of a batch of test and prediction, at least 1. With 1, every word is predicted from
            all words before it.
        length: Steps of a batch, on average in training: at least 1.
        random_lengths: Whether training batches have random lengths. Epochs then differ in their number of batches, and
            Lightning accepts no fractions for ``limit_train_batches`` and ``val_check_interval``; a number of batches
            must not exceed those of the shortest epoch.
        max_length: Most steps of a training batch of a random length, at least 5; ``None`` for ``length + 20``.
        train_tokens: Train on the first ``train_tokens`` words, at least 2; ``None`` for all. The vocabulary stays that
            of the whole text.
        max_words: Most words of the vocabulary beside ``<unk>`` and ``<eos>``, at least 1; ``None`` for all. The most
            frequent ones are kept.
        **arguments: ``seed`` and ``cache`` of `TextDataModule`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> import pathlib, tempfile
        >>> class Letter(CorpusDataModule):
        ...     def sources(self):
        ...         return dict.fromkeys(SPLITS, TextSource(pathlib.Path(folder, "letter.txt")))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "letter.txt").write_text("to be or not to be\n")
        ...     letter = Letter(batch_size=2, length=3, random_lengths=False, cache=folder)
        ...     letter.setup("fit")
        ...     tokens, targets = next(iter(letter.train_dataloader()))
        >>> [[letter.vocabulary.words[number] for number in column] for column in tokens.T]
        [['to', 'be', 'or'], ['not', 'to', 'be']]
    """

    n_tokens: ClassVar[Mapping[Split, int] | None] = None
    """Expected number of words of each text, ends of lines included; ``None`` for any."""
    n_words: ClassVar[int | None] = None
    """Expected size of the vocabulary; ``None`` for any."""
    tokens: Tokens = "whitespace"
    """Name of the function that splits a text into words: a key of ``TEXT_TOKENIZERS``."""
    min_count: int = 1
    """Fewest occurrences of a word of the vocabulary in the training text."""

    def __init__(
        self,
        batch_size: int = 20,
        eval_batch_size: int = 10,
        test_batch_size: int = 1,
        length: int = 70,
        random_lengths: bool = True,
        train_tokens: int | None = None,
        *,
        max_words: int | None = None,
        max_length: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        check_integers(
            1, batch_size=batch_size, eval_batch_size=eval_batch_size, test_batch_size=test_batch_size, length=length
        )
        check_integers(1, optional=True, max_words=max_words)
        check_integers(5, optional=True, max_length=max_length)
        check_integers(2, optional=True, train_tokens=train_tokens)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.test_batch_size = test_batch_size
        self.length = length
        self.random_lengths = random_lengths
        self.max_length = max_length
        self.train_tokens = train_tokens
        self.max_words = max_words

    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts; raise ``FileNotFoundError`` if files are missing."""
        return {split: TextSource(path) for split, path in zip(SPLITS, self.require_files(), strict=True)}

    def read(self) -> Iterator[Document]:
        """Read the three texts as one document each."""
        split_into_words = TEXT_TOKENIZERS[self.tokens]
        for split, source in self.sources().items():
            words = chain.from_iterable(read_words(source, split_into_words))
            yield Document(split, UNLABELLED, split, words)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksums of the files and the settings that the encoded texts depend on."""
        texts = {split: [checksum(source.path), source.member] for split, source in self.sources().items()}
        return {"texts": texts, "tokens": self.tokens, "n_tokens": self.n_tokens, "n_words": self.n_words}

    @property
    def word_rules(self) -> WordRules:
        """Rules for the vocabulary."""
        return WordRules((UNKNOWN, END), self.min_count, self.max_words, marked=True)

    def check_corpus(self, corpus: Corpus) -> None:
        """Check the numbers of words; raise `DocumentError` if a text is empty or not the published one."""
        sources, published = self.sources(), self.n_tokens or {}
        numbers = [(split, len(corpus.parts[split][0]), "tokens", published.get(split)) for split in SPLITS]
        n_words = self.n_words if self.max_words is None else None
        numbers.append(("train", len(corpus.vocabulary), "words in its vocabulary", n_words))
        for split, found, counted, expected in numbers:
            if not found:
                raise DocumentError(f"{sources[split]} is empty: the {split} text needs at least one line")
            if expected not in {None, found}:
                raise DocumentError(
                    f"{sources[split]} is not the published {split} text: found {found:,} {counted}, expected"
                    f" {expected:,}; put the published file in its place"
                )

    def setup(self, stage: str | None = None) -> None:
        """Open the encoded texts, for any stage; encode them first, if that has not been done.

        Raises:
            ValueError: If ``stage`` is another one, or the training text has fewer than ``train_tokens`` words.
        """
        super().setup(stage)
        found = len(self.corpus.parts["train"][0])
        if self.train_tokens is not None and self.train_tokens > found:
            raise ValueError(
                f"train_tokens must be at most {found}, the words of the training text, got {self.train_tokens}"
            )

    def text(self, split: Split) -> npt.NDArray[np.integer[Any]]:
        """Return a text as word indices ``(N,)`` of dtype ``int32``, a read-only memory map; after ``prepare_data``.

        Of the training text, these are the first ``train_tokens``.
        """
        text = self.corpus.parts[split][0]
        return text[: self.train_tokens] if split == "train" else text

    def train_dataloader(self) -> ContiguousBatches:
        """Return the loader of training batches: the columns of this process.

        Raises:
            ValueError: If the text is too short for ``batch_size``, or the trainer's ``limit_train_batches`` exceeds
                the batches of an epoch of random lengths up to ``max_epochs``. Without ``max_epochs``, such an epoch
                raises it when it starts.
        """
        trainer = self.trainer
        rank, world_size = rank_and_world_size(trainer)
        loader = LimitedBatches(
            self.text("train"),
            self.batch_size,
            self.length,
            random_lengths=self.random_lengths,
            max_length=self.max_length,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            used_batches=batches_used_by(trainer),
            limit=_limit(trainer) if self.random_lengths else None,
        )
        if trainer is not None:
            # A run resumed between epochs draws its first batch before Lightning sets the epoch.
            epoch = processed(trainer.fit_loop.epoch_progress)
            loader.check_limit(range(epoch, trainer.max_epochs or 0))  # none where max_epochs=-1: there is no last one
            loader.epoch = epoch  # unchecked, since a finished run has no such epoch
        return loader

    def val_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole validation text."""
        return self._whole("validation", "eval_batch_size")

    def test_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole test text."""
        return self._whole("test", "test_batch_size")

    def predict_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole test text, targets included."""
        return self.test_dataloader()

    def _whole(self, part: Split, size: str) -> ContiguousBatches:
        return ContiguousBatches(self.text(part), getattr(self, size), self.length, pad=True, size_argument=size)


def _limit(trainer: Trainer | None) -> int | None:
    """Return the most batches that a trainer uses in an epoch; ``None`` for a share of them, or no trainer."""
    limit = None if trainer is None else trainer.limit_train_batches
    return limit if type(limit) is int else None
