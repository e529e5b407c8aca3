"""Starting a language model from the weights of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from lightning_advdrop.tasks.pretrained import read_checkpoint

WORDS = "vocabulary"
"""Where a checkpoint of `LanguageModelingTask` holds the vocabulary, a list of str."""

_PARTS = ("model.embedding.weight", "model.rnns.0.weight_hh_l0", "model.decoder.bias")


def check_kind(checkpoint: Mapping[str, Any], where: str) -> None:
    """Checks that a checkpoint is one of a `LanguageModelingTask`.

    Args:
        checkpoint: its content.
        where: what it is, for the message.

    Raises:
        ValueError: if it is another one.

    Example:
        >>> check_kind({"state_dict": {}}, "ckpt_path")
        Traceback (most recent call last):
        ...
        ValueError: ckpt_path must be a checkpoint of LanguageModelingTask, got one of another kind.
    """
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or any(name not in weights for name in _PARTS):
        raise ValueError(f"{where} must be a checkpoint of LanguageModelingTask, got one of another kind.")


def load_weights(task: LightningModule, argument: str, path: str, vocabulary: Any) -> None:
    """Gives a language model the weights of a checkpoint, those that were evaluated where weights were averaged.

    Args:
        task: what gets the weights.
        argument: the name of the argument that ``path`` was given as, for messages.
        path: a checkpoint of a `LanguageModelingTask`.
        vocabulary: the `Vocabulary` of the data, which has to be that of the checkpoint; None if there is none.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it can't be read, is of another model, or of another vocabulary.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{argument} must be a checkpoint of an earlier run, got {path!r}: no such file.")
    checkpoint = read_checkpoint(argument, path)
    where = f"{argument}={path!r}"
    check_kind(checkpoint, where)
    weights = checkpoint["state_dict"]
    words = checkpoint.get(WORDS)
    if vocabulary is not None and words is not None:
        vocabulary.check_same(words, where)
    needed = task.state_dict()
    if weights.keys() != needed.keys():
        different = sorted(weights.keys() ^ needed.keys())
        raise ValueError(f"{where} must be a checkpoint of the same model, got one that differs in {different[0]}.")
    for name, weight in weights.items():
        if weight.shape != needed[name].shape:
            raise ValueError(
                f"{where} must be a checkpoint of the same model: {name} must have the shape "
                f"{tuple(needed[name].shape)}, got {tuple(weight.shape)}."
            )
    task.load_state_dict(weights)
