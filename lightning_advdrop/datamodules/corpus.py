"""What the data modules for language models share: three texts as numbers, read in contiguous batches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningDataModule, Trainer

from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.corpus_files import Corpus, Split, TokenArray, read_corpus
from lightning_advdrop.datamodules.sequences import MAX_SEED, check_integer
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_files import TextSource, Tokens, check_tokens


class CorpusDataModule(LightningDataModule, ABC):
    r"""Three texts for training, validation and test of a language model.

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
        tokens: ``"whitespace"``: words are what stands between white space; ``"word"``: they end at punctuation, too.
        min_count: The fewest times that a word of the vocabulary occurs in the training text, at least 1.
        max_words: The most words of the vocabulary beside ``<unk>`` and ``<eos>``; ``None`` for no limit.
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
        ...         return dict.fromkeys(["train", "validation", "test"], TextSource(Path(folder, "letter.txt")))
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

    def __init__(
        self,
        *,
        batch_size: int = 20,
        eval_batch_size: int = 10,
        test_batch_size: int = 1,
        length: int = 70,
        random_lengths: bool = True,
        train_tokens: int | None = None,
        tokens: Tokens = "whitespace",
        min_count: int = 1,
        max_words: int | None = None,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, low=1)
        check_integer("eval_batch_size", eval_batch_size, low=1)
        check_integer("test_batch_size", test_batch_size, low=1)
        check_integer("length", length, low=1)
        check_integer("min_count", min_count, low=1)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        if train_tokens is not None:
            check_integer("train_tokens", train_tokens, low=2)
        if max_words is not None:
            check_integer("max_words", max_words, low=1)
        check_tokens(tokens)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.test_batch_size = test_batch_size
        self.length = length
        self.random_lengths = random_lengths
        self.train_tokens = train_tokens
        self.tokens = tokens
        self.min_count = min_count
        self.max_words = max_words
        self.seed = seed
        self.cache = cache
        self._texts: dict[Split, TokenArray] = {}
        self._vocabulary: Vocabulary | None = None

    @abstractmethod
    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts.

        Raises:
            FileNotFoundError: If files are missing.
        """

    @property
    def vocabulary(self) -> Vocabulary:
        """Words and their numbers; there after ``prepare_data`` or ``setup``.

        Raises:
            RuntimeError: If neither has been called.
        """
        if self._vocabulary is None:
            raise RuntimeError("The vocabulary is not loaded: call prepare_data() or setup() before asking for it")
        return self._vocabulary

    def prepare_data(self) -> None:
        """Number the words of the three texts and keep the numbers in the cache, if they are not there.

        Raises:
            FileNotFoundError: If files are missing.
            TextFormatError: If a file does not hold what it should.
        """
        self._load()

    def setup(self, stage: str | None = None) -> None:
        """Open the numbered texts.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None``: the same for all.

        Raises:
            FileNotFoundError: If files are missing.
            TextFormatError: If a file does not hold what it should.
            ValueError: If ``stage`` is another one, or the training text has fewer than ``train_tokens`` words.
        """
        if stage not in ("fit", "validate", "test", "predict", None):
            raise ValueError(f"stage must be 'fit', 'validate', 'test', 'predict' or None, got {stage!r}")
        self._load()
        found = len(self._texts["train"])
        if self.train_tokens is not None and self.train_tokens > found:
            raise ValueError(
                f"train_tokens must be at most {found}, the words of the training text, got {self.train_tokens}"
            )

    def text(self, split: Split) -> TokenArray:
        """Return one text as the numbers of its words.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.

        Returns:
            Word numbers ``(N,)`` of type ``int32``, a memory map that can only be read; for training the first
            ``train_tokens``.

        Raises:
            RuntimeError: If neither ``prepare_data`` nor ``setup`` has been called.
        """
        if split not in self._texts:
            raise RuntimeError(f"The {split} text is not loaded: call setup() before asking for it")
        text = self._texts[split]
        return text[: self.train_tokens] if split == "train" else text

    def train_dataloader(self) -> ContiguousBatches:
        """Return the loader of training batches; each process reads columns of its own.

        Raises:
            RuntimeError: If the text is not loaded.
            ValueError: If the text is too short for ``batch_size``, or the trainer's ``limit_train_batches`` is a
                number beyond those of an epoch of random lengths.
        """
        loader = ContiguousBatches(
            self.text("train"),
            self.batch_size,
            self.length,
            random_lengths=self.random_lengths,
            seed=self.seed,
            **({} if self.trainer is None else _place(self.trainer)),
        )
        if self.trainer is not None:
            # A run that is resumed between two epochs draws its first batch before Lightning tells the epoch.
            loader.set_epoch(_processed(self.trainer.fit_loop.epoch_progress))
            if self.random_lengths:
                _check_limit(self.trainer.limit_train_batches, loader.num_batches)
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

    def _load(self) -> None:
        if self._vocabulary is not None:
            return
        n_words = self.n_words if self.max_words is None else None
        corpus = Corpus(self.sources(), self.tokens, self.min_count, self.max_words, self.n_tokens, n_words)
        self._texts, self._vocabulary = read_corpus(cached(corpus.settings(), corpus.write, folder=self.cache))


def _place(trainer: Trainer) -> dict[str, Any]:
    """Say which columns are this process's, and how many batches of the epoch it used: Lightning fetches one ahead."""
    return {
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
        "used_batches": lambda: _processed(trainer.fit_loop.epoch_loop.batch_progress),
    }


def _check_limit(limit: int | float | None, num_batches: int) -> None:
    """Refuse a limit that would keep Lightning from noticing the end of an epoch, which it then does not validate."""
    if type(limit) is int and limit > num_batches:
        raise ValueError(
            f"limit_train_batches must be at most {num_batches}, the batches of this epoch, or 1.0 for all of them"
            f" where random_lengths=True, got {limit}"
        )


def _processed(progress: Any) -> int:
    """Read a counter of Lightning's, which does not declare its type."""
    return int(progress.current.processed)
