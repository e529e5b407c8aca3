"""What the published data sets for language models share: where their files lie, and fetching them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning_advdrop.datamodules.corpus import CorpusDataModule
from lightning_advdrop.datamodules.corpus_files import Split
from lightning_advdrop.datamodules.downloads import check_mirrors, download
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE, data_root
from lightning_advdrop.datamodules.text_files import TextSource


class PublishedCorpusDataModule(CorpusDataModule):
    """A published data set for language models, below a root folder, whose files can be downloaded.

    A subclass names the data set and implements :meth:`find`. Local files are checked by their numbers of words,
    downloaded ones by their checksums.

    Args:
        root: Folder that holds ``folder_name``; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``, else
            ``data``.
        download: Whether to fetch the files that are missing.
        mirrors: Base addresses to fetch from, tried in this order.
        arguments: See :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> class Hello(PublishedCorpusDataModule):
        ...     title, folder_name, checksums = "Hello", "hello", {"hello.txt": "b1946ac92492d2347c6235b4d2611184"}
        ...     def find(self):
        ...         return dict.fromkeys(["train", "validation", "test"], TextSource(self.folder / "hello.txt"))
        >>> Hello("sets", download=False, mirrors=["https://example.org"]).sources()
        Traceback (most recent call last):
        ...
        FileNotFoundError: Hello files are missing: looked for sets/hello/hello.txt; put them there, name another folder with root or the environment variable LIGHTNING_ADVDROP_DATA, or set download=True
    """  # noqa: E501 - the message of the example

    title: ClassVar[str]
    """Name of the data set in messages."""
    folder_name: ClassVar[str]
    """Folder below the root."""
    checksums: ClassVar[Mapping[str, str]]
    """Published md5 of each file, checked when it is downloaded: a local file may have been packed anew."""

    def __init__(self, root: str | Path | None, *, download: bool, mirrors: Sequence[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.root = data_root(root)
        self.download = download
        self.mirrors = check_mirrors(mirrors)

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.root / self.folder_name

    @abstractmethod
    def find(self) -> dict[Split, TextSource]:
        """Say where the three texts lie, or should lie if they are missing."""

    def prepare_data(self) -> None:
        """Fetch the files that are missing, if ``download`` allows it, and number the words of the three texts.

        Raises:
            FileNotFoundError: If files are missing and ``download`` is false.
            DownloadError: If no mirror delivers one of them.
            TextFormatError: If a file does not hold what it should.
        """
        if self.download:
            for path in self._missing():
                download(path, self.mirrors, self.checksums[path.name])
        super().prepare_data()

    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts.

        Raises:
            FileNotFoundError: If files are missing.
        """
        if missing := self._missing():
            raise FileNotFoundError(
                f"{self.title} files are missing: looked for {', '.join(map(str, missing))}; put them there, name"
                f" another folder with root or the environment variable {DATA_ROOT_VARIABLE}, or set download=True"
            )
        return self.find()

    def _missing(self) -> list[Path]:
        return [path for path in dict.fromkeys(source.path for source in self.find().values()) if not path.is_file()]
