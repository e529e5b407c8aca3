"""Any three text files, to train a language model on."""

from pathlib import Path

from lightning_advdrop.datamodules.corpus import CorpusDataModule
from lightning_advdrop.datamodules.corpus_files import SPLITS, Split
from lightning_advdrop.datamodules.text_files import TextSource, Tokens


class TextFileDataModule(CorpusDataModule):
    """Three text files of one's own, to train a language model on.

    The files are plain text in UTF-8. The vocabulary is that of the training file: ``<unk>``, ``<eos>``, then the most
    frequent words first. Words of the other two that are not in it become ``<unk>``, and ``<eos>`` stands at the end of
    each line. Batches are tokens ``(T, B)`` and their successors ``(T, B)``, see
    :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`.

    Args:
        train: File to train on.
        validation: File for validation.
        test: File for test and prediction.
        tokens: ``"whitespace"``: words are what stands between white space; ``"word"``: letters and digits (with
            apostrophes inside) and single other characters are words, too. Case is kept.
        min_count: The fewest times that a word of the vocabulary occurs in the training file, at least 1.
        max_words: The most words of the vocabulary beside ``<unk>`` and ``<eos>``; ``None`` for no limit.
        batch_size: Columns of a training batch, at least 1.
        eval_batch_size: Columns of a validation batch, at least 1.
        test_batch_size: Columns of a batch of test and prediction, at least 1.
        length: Steps of a batch, on average in training: at least 1.
        random_lengths: Whether the lengths of training batches are drawn.
        train_tokens: Train on this many words from the beginning, at least 2; ``None`` for all.
        seed: Of the lengths, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> data = TextFileDataModule("train.txt", "validation.txt", "test.txt", tokens="word", min_count=3)
        >>> data.sources()
        Traceback (most recent call last):
        ...
        FileNotFoundError: Text files are missing: looked for train.txt, validation.txt, test.txt
    """

    def __init__(
        self,
        train: str | Path,
        validation: str | Path,
        test: str | Path,
        tokens: Tokens = "whitespace",
        min_count: int = 1,
        max_words: int | None = None,
        *,
        batch_size: int = 20,
        eval_batch_size: int = 10,
        test_batch_size: int = 1,
        length: int = 70,
        random_lengths: bool = True,
        train_tokens: int | None = None,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            test_batch_size=test_batch_size,
            length=length,
            random_lengths=random_lengths,
            train_tokens=train_tokens,
            tokens=tokens,
            min_count=min_count,
            max_words=max_words,
            seed=seed,
            cache=cache,
        )
        paths = (Path(path).expanduser() for path in (train, validation, test))
        self.paths: dict[Split, Path] = dict(zip(SPLITS, paths, strict=True))

    def sources(self) -> dict[Split, TextSource]:
        """Find the three files.

        Raises:
            FileNotFoundError: If one is missing.
        """
        if missing := [str(path) for path in self.paths.values() if not path.is_file()]:
            raise FileNotFoundError(f"Text files are missing: looked for {', '.join(missing)}")
        return {split: TextSource(path) for split, path in self.paths.items()}
