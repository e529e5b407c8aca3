"""Base of the data modules of text: encode it once, open what is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from tqdm import tqdm

from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.checks import check_stage
from lightning_advdrop.datamodules.encoding import FORMAT, Corpus, WordRules
from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_files import Document


class TextDataModule(LightningDataModule, ABC):
    """Texts that are read, split into words and numbered once.

    The result lies in the folder of prepared data, under a name made from the content of the files and the settings
    that matter, and is used from there.

    Args:
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.
    """

    def __init__(self, *, cache: str | Path | None = None) -> None:
        super().__init__()
        self.cache = cache
        self._corpus: Corpus | None = None

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
    @abstractmethod
    def word_rules(self) -> WordRules:
        """Which words the vocabulary gets."""

    def check_corpus(self, corpus: Corpus) -> None:
        """Check what was read before it is kept; raise `DocumentError` if it is not what it should be."""

    @property
    def corpus(self) -> Corpus:
        """Encoded documents and their vocabulary; after ``prepare_data`` or ``setup``.

        Raises:
            RuntimeError: If neither has been called.
        """
        if self._corpus is None:
            raise RuntimeError(
                f"The texts of {type(self).__name__} are not encoded: call prepare_data() or setup() before asking for"
                " them"
            )
        return self._corpus

    @property
    def vocabulary(self) -> Vocabulary:
        """Words and how often they occur in the training documents, labelled or not; after ``prepare_data``.

        Raises:
            RuntimeError: If the texts are not encoded.
        """
        return self.corpus.vocabulary

    def prepare_data(self) -> None:
        """Encode the texts, unless that has been done; fetch missing files first, where ``download`` allows it.

        Several processes may do this at the same time: one works, the others wait.

        Raises:
            FileNotFoundError: If files are missing.
            DownloadError: If no mirror delivers a file.
            DocumentError: If a file does not hold what it should; it names the file, and the line where there is one.
        """
        if self._corpus is not None:
            return
        name, rules = type(self).__name__, self.word_rules

        def build(folder: Path) -> None:
            documents = tqdm(self.read(), desc=f"Encoding {name}", unit=" documents", disable=None)
            corpus = Corpus.encode(documents, rules, name)
            self.check_corpus(corpus)
            corpus.save(folder)

        settings = {"format": FORMAT, "name": name, "rules": asdict(rules), "data": dict(self.fingerprint())}
        self._corpus = Corpus.load(cached(settings, build, folder=self.cache))

    def setup(self, stage: str | None = None) -> None:
        """Open what a stage needs, once; encode the texts if that has not been done.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all of them.

        Raises:
            ValueError: If ``stage`` is another one, or there is less text than is asked for.
        """
        check_stage(stage)
        if self._corpus is None:
            self.prepare_data()
