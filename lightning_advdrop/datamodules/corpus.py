"""Running texts for language models, read in contiguous batches."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from lightning import Trainer

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integer, check_integers
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.encoding import Corpus, WordRules
from lightning_advdrop.datamodules.loading import rank_and_world_size
from lightning_advdrop.datamodules.text import END, UNKNOWN
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import Document, DocumentError, TextSource, checksum, read_words
from lightning_advdrop.datamodules.text_module import TextDataModule
from lightning_advdrop.datamodules.tokenizing import TEXT_TOKENIZERS, Tokens

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class CorpusDataModule(TextDataModule):
    r"""Three running texts for training, validation and test of a language model.

    A subclass implements :meth:`sources`. The vocabulary is that of the whole training text: ``<unk>``, ``<eos>``, then
    the most frequent words first, equals in alphabetical order; ``<eos>`` stands at the end of each line. The numbered
    texts are kept in the cache and read as memory maps.

    Batches are tokens ``(T, B)`` and their successors ``(T, B)``, ``int64``, time first, each stretch of a column going
    on where the one before ended: a recurrent state may be carried from batch to batch, and begins anew with each pass
    (Merity, Keskar & Socher 2018, arXiv 1708.02182). Training batches have random lengths, drawn from ``seed`` and the
    epoch, with each of several processes reading ``batch_size`` columns of its own. Validation and test leave out no
    word but the first, in batches of exactly ``length`` steps but for the last, which may be filled up with targets of
    ``-100``, the value that cross-entropy ignores; every process reads them whole, so that what is measured does not
    depend on the number of processes.

    Args:
        batch_size: Columns of a training batch, at least 1.
        eval_batch_size: Columns of a validation batch, at least 1.
        test_batch_size: Columns of a batch of test and prediction, at least 1. With 1, every word is predicted in the
            full context of those before it.
        length: Steps of a batch, on average in training: at least 1.
        random_lengths: Whether the lengths of training batches are drawn. Epochs then differ in their number of
            batches, so that Lightning takes no fractions for ``limit_train_batches`` and ``val_check_interval``.
        train_tokens: Train on this many words from the beginning, at least 2; ``None`` for all. The vocabulary stays
            that of the whole text.
        max_words: Keep only this many of the most frequent words beside ``<unk>`` and ``<eos>``, at least 1; ``None``
            for all.
        seed: Of the lengths, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> import tempfile
        >>> class Letter(CorpusDataModule):
        ...     def sources(self):
        ...         return dict.fromkeys(SPLITS, TextSource(Path(folder, "letter.txt")))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "letter.txt").write_text("to be or not to be\n")
        ...     letter = Letter(batch_size=2, length=3, random_lengths=False, cache=folder)
        ...     letter.setup("fit")
        ...     tokens, targets = next(iter(letter.train_dataloader()))
        >>> [[letter.vocabulary.words[number] for number in column] for column in tokens.T]
        [['to', 'be', 'or'], ['not', 'to', 'be']]
    """

    n_tokens: ClassVar[Mapping[Split, int] | None] = None
    """Words of each text, ends of lines included; ``None`` where any number is right."""
    n_words: ClassVar[int | None] = None
    """Words of the vocabulary; ``None`` where any number is right."""
    tokens: Tokens = "whitespace"
    """Name of the way in which a text is split into words: one of ``TEXT_TOKENIZERS``."""
    min_count: int = 1
    """The fewest times that a word of the vocabulary occurs in the training text."""

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
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(cache=cache)
        check_integers(
            1, batch_size=batch_size, eval_batch_size=eval_batch_size, test_batch_size=test_batch_size, length=length
        )
        check_integers(1, optional=True, max_words=max_words)
        check_integers(2, optional=True, train_tokens=train_tokens)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.test_batch_size = test_batch_size
        self.length = length
        self.random_lengths = random_lengths
        self.train_tokens = train_tokens
        self.max_words = max_words
        self.seed = seed

    @abstractmethod
    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts.

        Raises:
            FileNotFoundError: If files are missing.
        """

    def read(self) -> Iterator[Document]:
        """Read the three texts as one document each."""
        split_into_words = TEXT_TOKENIZERS[self.tokens]
        for split, source in self.sources().items():
            words = chain.from_iterable(read_words(source, split_into_words))
            yield Document(split, UNLABELLED, split, words)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksums of the files, and all else that the numbers depend on."""
        texts = {split: [checksum(source.path), source.member] for split, source in self.sources().items()}
        return {"texts": texts, "tokens": self.tokens, "n_tokens": self.n_tokens, "n_words": self.n_words}

    @property
    def word_rules(self) -> WordRules:
        """Which words the vocabulary gets."""
        return WordRules((UNKNOWN, END), self.min_count, self.max_words, marked=True)

    def check_corpus(self, corpus: Corpus) -> None:
        """Check the numbers of words; raise `DocumentError` if a text is empty or not the published one."""
        sources = self.sources()
        for split in SPLITS:
            found = len(corpus.parts[split].tokens)
            if not found:
                raise DocumentError(f"{sources[split]} is empty: the {split} text needs at least one line")
            if self.n_tokens is not None and found != self.n_tokens[split]:
                raise _not_published(sources[split], split, found, "tokens", self.n_tokens[split])
        found = len(corpus.vocabulary)
        if self.n_words is not None and self.max_words is None and found != self.n_words:
            raise _not_published(sources["train"], "train", found, "words in its vocabulary", self.n_words)

    def setup(self, stage: str | None = None) -> None:
        """Open the encoded texts; encode them if that has not been done.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None``: the same for all.

        Raises:
            FileNotFoundError: If files are missing.
            DocumentError: If a file does not hold what it should.
            ValueError: If ``stage`` is another one, or the training text has fewer than ``train_tokens`` words.
        """
        super().setup(stage)
        found = len(self.corpus.parts["train"].tokens)
        if self.train_tokens is not None and self.train_tokens > found:
            raise ValueError(
                f"train_tokens must be at most {found}, the words of the training text, got {self.train_tokens}"
            )

    def text(self, split: Split) -> npt.NDArray[np.integer[Any]]:
        """Return one text as the numbers of its words.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.

        Returns:
            Word numbers ``(N,)`` of type ``int32``, a memory map that can only be read; for training the first
            ``train_tokens``.

        Raises:
            RuntimeError: If neither ``prepare_data`` nor ``setup`` has been called.
        """
        text = self.corpus.parts[split].tokens
        return text[: self.train_tokens] if split == "train" else text

    def train_dataloader(self) -> ContiguousBatches:
        """Return the loader of training batches; each process reads columns of its own.

        Raises:
            RuntimeError: If the text is not loaded.
            ValueError: If the text is too short for ``batch_size``, or the trainer's ``limit_train_batches`` is a
                number beyond those of an epoch of random lengths.
        """
        trainer = self.trainer
        rank, world_size = rank_and_world_size(trainer)
        loader = ContiguousBatches(
            self.text("train"),
            self.batch_size,
            self.length,
            random_lengths=self.random_lengths,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            used_batches=None if trainer is None else lambda: _processed(trainer.fit_loop.epoch_loop.batch_progress),
        )
        if trainer is not None:
            # A run that is resumed between two epochs draws its first batch before Lightning tells the epoch.
            loader.set_epoch(_processed(trainer.fit_loop.epoch_progress))
            if self.random_lengths:
                _check_limit(trainer, loader.num_batches)
        return loader

    def val_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole validation text."""
        return self._whole("validation", "eval_batch_size")

    def test_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole test text."""
        return self._whole("test", "test_batch_size")

    def predict_dataloader(self) -> ContiguousBatches:
        """Return the loader of the whole test text, targets included, for predictions."""
        return self.test_dataloader()

    def _whole(self, part: Split, size: str) -> ContiguousBatches:
        return ContiguousBatches(self.text(part), getattr(self, size), self.length, pad=True, size_argument=size)


def _not_published(source: TextSource, split: Split, found: int, what: str, expected: int) -> DocumentError:
    return DocumentError(
        f"{source} is not the published {split} text: found {found:,} {what}, expected {expected:,};"
        " put the published file in its place"
    )


def _check_limit(trainer: Trainer, num_batches: int) -> None:
    """Refuse a limit that would keep Lightning from noticing the end of an epoch, which it then does not validate."""
    limit = trainer.limit_train_batches
    if type(limit) is int and limit > num_batches:
        raise ValueError(
            f"limit_train_batches must be at most {num_batches}, the batches of this epoch, or 1.0 for all of them"
            f" where random_lengths=True, got {limit}"
        )


def _processed(progress: Any) -> int:
    """Read a counter of Lightning's, which does not declare its type."""
    return int(progress.current.processed)
