"""The base of the tasks whose networks are made for a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from lightning.pytorch import LightningDataModule

from lightning_advdrop._lightning import attached_trainer, load_module, trainer_datamodule
from lightning_advdrop.datamodules.text import Tokenizer, Vocabulary
from lightning_advdrop.tasks.base_task import BaseTask
from lightning_advdrop.tasks.checkpoints import check_read_alike, read_checkpoint, saved_vocabulary

_Task = TypeVar("_Task", bound="VocabularyTask")


class TextSettings(NamedTuple):
    """How a text is prepared for a network, besides the vocabulary; in plain types.

    Attributes:
        tokenizer: how a text is split into words, see `lightning_advdrop.datamodules.encode_documents`.
        max_tokens: a longer document's last so many words are read; None for all.
        padding_index: the number of the word that fills up batches.
        num_classes: the number of classes.
        class_names: their names, if they have any.
        reverse: whether the words were read from the last to the first.
    """

    tokenizer: Tokenizer
    max_tokens: int | None
    padding_index: int
    num_classes: int
    class_names: tuple[str, ...] | None
    reverse: bool

    @classmethod
    def of(cls, data: Any) -> TextSettings:
        """Return those of a data module of documents."""
        names, reverse = data.class_names and tuple(data.class_names), data.task == "pretrain" and data.reverse
        return cls(data.tokenizer, data.max_tokens, data.padding_index, data.num_classes, names, reverse)

    def check_same(self, saved: TextSettings, where: str) -> None:
        """Check that a network was made for texts like these; it may have read more or fewer words of each.

        Args:
            saved: those of the network.
            where: where they are from, for the message.

        Raises:
            ValueError: if another setting differs; it names the setting.
        """
        ours = self._replace(max_tokens=saved.max_tokens)
        check_read_alike(where, "texts", saved._asdict(), ours._asdict())


class VocabularyTask(BaseTask):
    """A task whose network is made when its vocabulary is known: from the trainer's data module, or from a checkpoint.

    Checkpoints hold the words, their counts and, where the data are documents, the `TextSettings`, so that a finished
    model needs no data. Where both a checkpoint and data are there, their words have to be the same.

    Attributes:
        vocabulary: the words; None as long as they aren't known.
        text: the text settings; None as long as they aren't known, and where the data are no documents.
    """

    data_task: ClassVar[str | None] = None
    """The ``task`` of the only data modules that are read, which are of documents; None for other tasks' data, too."""
    without_data: ClassVar[str] = "load the task from a checkpoint"
    """The remedy where the trainer has no data with a vocabulary, for the message."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary: Vocabulary | None = None
        self.text: TextSettings | None = None

    @classmethod
    def read(cls, argument: str, path: str | Path, vocabulary: Vocabulary | None = None) -> dict[str, Any]:
        """Read a checkpoint of this task.

        Args:
            argument: the name of the argument that ``path`` was given as, for messages.
            path: the file.
            vocabulary: what the words of the checkpoint have to be; None if they may be any.

        Raises:
            MissingCheckpointError: if there is no such file.
            ValueError: if it can't be read, is of another task, or of another vocabulary.
        """
        checkpoint, where = read_checkpoint(argument, path), f"{argument}={str(path)!r}"
        cls.check_kind(checkpoint, where)
        saved = saved_vocabulary(checkpoint)
        if vocabulary is not None and saved is not None:
            vocabulary.check_same(saved.words, where)
        return checkpoint

    @classmethod
    def load(cls: type[_Task], path: str | Path) -> _Task:
        """Load a trained task with its vocabulary onto the CPU, in evaluation mode.

        Args:
            path: a checkpoint. Where weights were averaged, the average is loaded.

        Raises:
            MissingCheckpointError: if there is no such file.
            ValueError: if it can't be read, is of another task, or has no vocabulary.
        """
        if saved_vocabulary(cls.read("ckpt_path", path)) is None:
            raise ValueError(
                f"ckpt_path={str(path)!r} must be a checkpoint with a vocabulary, got one without: train with a data "
                "module that has one."
            )
        return load_module(cls, path).eval()

    @classmethod
    def is_kind(cls, checkpoint: Mapping[str, Any]) -> bool:
        """Tell whether the content of a checkpoint can be of this task."""
        if cls.data_task is not None:
            text = checkpoint.get("text")
            if "vocabulary" not in checkpoint or not isinstance(text, dict) or text.keys() != {*TextSettings._fields}:
                return False
        return super().is_kind(checkpoint)

    def reads(self, data: LightningDataModule) -> bool:
        """Tell whether the batches of a data module can be of this task: of documents only, where it is theirs."""
        return super().reads(data) if self.data_task is None else getattr(data, "task", None) == self.data_task

    def start_from(self, data: LightningDataModule) -> None:
        """Give a network that was made for training other weights than random ones; by default, none."""

    def configure_model(self) -> None:
        """Make the network for the trainer's data.

        Raises:
            ValueError: if there is a trainer without data that have a vocabulary, or with data of another kind, or the
                network was made for another vocabulary or other text settings.
        """
        trainer = attached_trainer(self)
        if trainer is None:
            return
        self.check_data()  # before it is asked for its words
        data, name = trainer_datamodule(trainer), type(self).__name__
        vocabulary: Vocabulary | None = getattr(data, "vocabulary", None)
        if vocabulary is not None and self.vocabulary is not None:
            vocabulary.check_same(self.vocabulary.words, f"the {name}")
            if self.text is not None:
                TextSettings.of(data).check_same(self.text, f"the {name}")
        elif vocabulary is not None:
            self._make_for(vocabulary, None if self.data_task is None else TextSettings.of(data))
            if trainer.state.fn == "fit":
                self.start_from(data)
        elif not self.made:
            raise ValueError(
                f"datamodule must have a vocabulary for {name} to make its network, got "
                f"{'none' if data is None else type(data).__name__}; without one, {self.without_data}."
            )

    def _make_for(self, vocabulary: Vocabulary, text: TextSettings | None) -> None:
        self.vocabulary, self.text = vocabulary, text
        if not self.made:
            self.make_parts()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the vocabulary and the text settings, in plain types."""
        super().on_save_checkpoint(checkpoint)
        if self.vocabulary is not None:
            words = self.vocabulary
            checkpoint["vocabulary"] = {"words": words.words, "counts": words.counts, "unknown": words.unknown}
        if self.text is not None:
            checkpoint["text"] = self.text._asdict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network for the checkpoint's vocabulary, or check that it is the same.

        Raises:
            ValueError: if it is a checkpoint of another task or other settings, or the words or texts differ.
        """
        self.check_kind(checkpoint, "ckpt_path")
        vocabulary, text = saved_vocabulary(checkpoint), checkpoint.get("text")
        if vocabulary is not None and self.vocabulary is not None:
            self.vocabulary.check_same(vocabulary.words, "ckpt_path")
            if self.text is not None and text is not None:
                self.text.check_same(TextSettings(**text), "ckpt_path")
        elif vocabulary is not None:
            self._make_for(vocabulary, None if text is None else TextSettings(**text))
        elif not self.made:
            raise ValueError(
                f"ckpt_path must be a checkpoint with a vocabulary, got one without; without one, {self.without_data}."
            )
        super().on_load_checkpoint(checkpoint)
