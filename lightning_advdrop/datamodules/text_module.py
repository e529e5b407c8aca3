"""Base of all data modules of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.checks import MAX_SEED, check_integers, check_stage
from lightning_advdrop.datamodules.class_code import describe_class
from lightning_advdrop.datamodules.encoding import FORMAT, Corpus, WordRules
from lightning_advdrop.datamodules.published import FilesDataModule
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_files import Document, checksum
from lightning_advdrop.files import writing


class TextDataModule(FilesDataModule, ABC):
    """Texts that are read, split into words and encoded once.

    The encoded texts are kept in the folder of prepared data, under a hash of the files, the settings and, for a
    subclass outside this package, its code: a corrected ``read`` prepares them anew.

    Args:
        seed: Seed of all random choices, orders and lengths, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.
    """

    def __init__(self, *, seed: int = 0, cache: str | Path | None = None) -> None:
        super().__init__()
        check_integers(0, MAX_SEED, seed=seed)
        self.seed = seed
        self.cache = cache
        self._corpus: Corpus | None = None

    @abstractmethod
    def read(self) -> Iterator[Document]:
        """Read all documents, in any order; ``FileNotFoundError`` or `DocumentError` for missing or invalid files."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return a description of the files' content that changes with it, in plain types: their checksums.

        Prepared data are found by it, by the word rules and by the code of the class. Arguments of a subclass that
        ``read`` depends on must be added to it.

        Raises:
            FileNotFoundError: If files are missing.
            NotImplementedError: If a subclass neither names its files nor implements ``fingerprint``.
        """
        return {path.name: checksum(path) for path in self.require_files()}

    def _settings(self) -> dict[str, Any]:
        """Return all that the encoded texts depend on, in plain types: prepared data are found by it."""
        kind = type(self)
        reader = describe_class(kind)  # nothing for classes of this package, whose FORMAT changes if they read anew
        return {
            "format": FORMAT,
            "name": kind.__name__,
            "rules": asdict(self.word_rules),
            "data": dict(self.fingerprint()),
            **({"reader": reader} if reader else {}),
        }

    @property
    @abstractmethod
    def word_rules(self) -> WordRules:
        """Rules for the vocabulary and the ends of documents."""

    def check_corpus(self, corpus: Corpus) -> None:
        """Check the encoded texts before they are kept; raise `DocumentError` if they are not the expected ones."""

    @property
    def corpus(self) -> Corpus:
        """Encoded documents and their vocabulary; ``RuntimeError`` before ``prepare_data`` or ``setup``."""
        if self._corpus is None:
            raise RuntimeError(
                f"The texts of {type(self).__name__} are not encoded: call prepare_data() or setup() before asking for"
                " them"
            )
        return self._corpus

    @property
    def vocabulary(self) -> Vocabulary:
        """Words and their counts in the training documents, labelled or not; after ``prepare_data``."""
        return self.corpus.vocabulary

    def prepare_data(self) -> None:
        """Encode the texts, unless that has been done; download missing files first, if ``download`` is set.

        If several processes do this at the same time, one works and the others wait.

        Raises:
            FileNotFoundError: If files are missing.
            DownloadError: If no mirror delivers a file.
            DocumentError: If the content of a file is invalid; it names the file and the line.
        """
        if self._corpus is not None:
            return
        name, rules = type(self).__name__, self.word_rules

        def build(folder: Path) -> None:
            documents = tqdm(self.read(), desc=f"Encoding {name}", unit=" documents", disable=None)
            corpus = Corpus.encode(documents, rules, name)
            self.check_corpus(corpus)
            with writing(folder.parent):
                corpus.save(folder)

        self._corpus = Corpus.load(cached(self._settings(), build, folder=self.cache))

    def setup(self, stage: str | None = None) -> None:
        """Open the encoded texts; encode them first, if that has not been done.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all; ``ValueError`` for others.
        """
        check_stage(stage)
        if self._corpus is None:
            self.prepare_data()
