"""What the tasks share whose networks are made for a vocabulary."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

from lightning.pytorch import LightningDataModule

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.tokenizing import Tokenizer
from lightning_advdrop.tasks.clipping import PublishedClipping


class TextSettings(NamedTuple):
    """What a text goes through before a network sees it, besides the vocabulary; in plain types.

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
        """Those of a data module."""
        names = data.class_names
        return cls(
            data.tokenizer,
            data.max_tokens,
            data.padding_index,
            data.num_classes,
            None if names is None else tuple(names),
            data.task == "pretrain" and data.reverse,
        )


class VocabularyTask(PublishedClipping):
    """A task whose network is made when its vocabulary is known: from the trainer's data module, or from a checkpoint.

    Checkpoints hold the words, their counts and the `TextSettings`, so that a finished model needs no data. Where both
    a checkpoint and data are there, their words have to be the same.

    Attributes:
        vocabulary: the words; None as long as they aren't known.
        text: the text settings; None as long as they aren't known.
    """

    data_task: ClassVar[str]
    """What the data module's batches have to be for: its ``task``."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary: Vocabulary | None = None
        self.text: TextSettings | None = None

    @abstractmethod
    def build(self, vocabulary: Vocabulary, text: TextSettings) -> None:
        """Makes the network."""

    def start_from(self, data: LightningDataModule) -> None:
        """Called when a network has been made for training, to give it other weights than random ones."""

    def configure_model(self) -> None:
        """Makes the network for the trainer's data.

        Raises:
            ValueError: if there is a trainer without a data module, or with one of another kind, or the network was
                made for another vocabulary.
        """
        trainer = self._trainer
        if trainer is None:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and getattr(data, "task", None) != self.data_task:
            raise ValueError(
                f"datamodule must be one of documents with task={self.data_task!r} for {type(self).__name__}, got "
                f"{type(data).__name__} with task={getattr(data, 'task', None)!r}."
            )
        if self.vocabulary is not None:
            if data is not None:
                data.vocabulary.check_same(self.vocabulary.words, f"the {type(self).__name__}")
            return
        if data is None:
            raise ValueError(
                f"datamodule must be given to the trainer for {type(self).__name__} to know the vocabulary, got none; "
                "without one, load the task from a checkpoint."
            )
        self._build(data.vocabulary, TextSettings.of(data))
        if trainer.state.fn == "fit":
            self.start_from(data)

    def _build(self, vocabulary: Vocabulary, text: TextSettings) -> None:
        self.vocabulary, self.text = vocabulary, text
        self.build(vocabulary, text)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the vocabulary and the text settings, in plain types."""
        if self.vocabulary is None or self.text is None:
            return
        words = self.vocabulary
        checkpoint["vocabulary"] = {"words": words.words, "counts": words.counts, "unknown": words.unknown}
        checkpoint["text"] = self.text._asdict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes the network for the checkpoint's vocabulary, or checks that it is the same.

        Raises:
            ValueError: if it is a checkpoint of another task or of other settings, or the words differ.
        """
        name = type(self).__name__
        if "vocabulary" not in checkpoint or "text" not in checkpoint:
            raise ValueError(f"ckpt_path must be a checkpoint of {name} with a vocabulary, got one without.")
        if self.vocabulary is None:
            self._build(Vocabulary(**checkpoint["vocabulary"]), TextSettings(**checkpoint["text"]))
        else:
            self.vocabulary.check_same(checkpoint["vocabulary"]["words"], "ckpt_path")
        own, found = (
            {part: tuple(weight.shape) for part, weight in state.items()}
            for state in (self.state_dict(), checkpoint["state_dict"])
        )
        for part in sorted(own.keys() | found.keys()):
            if own.get(part) != found.get(part):
                raise ValueError(
                    f"ckpt_path must be a checkpoint of {name} with the same settings: {part} has the shape "
                    f"{found.get(part)} there and {own.get(part)} here (None: it is missing)."
                )
