"""Starting a classifier from the checkpoint of a language model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.nn import DocumentEncoder

# Where the encoder stands in a checkpoint of TextPretrainingTask.
_PREFIX = "model.encoder."
_SOFTMAX = "model.softmax."


def read_checkpoint(argument: str, path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint file.

    Args:
        argument: the name of the argument that ``path`` was given as, for messages.
        path: the file.

    Raises:
        ValueError: if there is no such file, or it can't be read.
    """
    where = f"{argument}={str(path)!r}"
    if not Path(path).is_file():
        raise ValueError(f"{where} must be a checkpoint file, got no such file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{where} must be a checkpoint file, got one that can't be read.") from error
    return content if isinstance(content, dict) else {}


def load_pretrained(
    encoder: DocumentEncoder, argument: str, path: str | Path, *, vocabulary: Vocabulary, reverse: bool
) -> None:
    """Gives an encoder the embedding and LSTM of a pre-trained language model.

    Args:
        encoder: what gets the weights.
        argument: the name of the argument that ``path`` was given as, for messages.
        path: a checkpoint of `lightning_advdrop.tasks.TextPretrainingTask`.
        vocabulary: the words of the data, which have to be those of the checkpoint.
        reverse: whether the encoder reads from the last word to the first, as the language model has to, too.

    Raises:
        ValueError: if there is no such file, it is another checkpoint, or it does not fit.
    """
    where = f"{argument}={str(path)!r}"
    checkpoint = read_checkpoint(argument, path)
    named = checkpoint.get("state_dict", {}).items()
    weights = {name.removeprefix(_PREFIX): weight for name, weight in named if name.startswith(_PREFIX)}
    # A classifier has an encoder, too, but no softmax over words.
    if not weights or "vocabulary" not in checkpoint or not any(name.startswith(_SOFTMAX) for name, _ in named):
        raise ValueError(
            f"{where} must be a checkpoint of TextPretrainingTask, got one without encoder, softmax or vocabulary."
        )
    vocabulary.check_same(checkpoint["vocabulary"]["words"], where)
    _check_direction(where, checkpoint["text"]["reverse"], reverse)
    _check_shapes(where, weights, encoder.state_dict())
    encoder.load_state_dict(weights)


def _check_direction(where: str, found: bool, needed: bool) -> None:
    if found != needed:
        raise ValueError(f"{where} must be of a model trained with reverse={needed}, got reverse={found}.")


def _check_shapes(where: str, found: dict[str, Tensor], needed: dict[str, Any]) -> None:
    for name, weight in needed.items():
        if found[name].shape != weight.shape:
            raise ValueError(
                f"{where} must fit embedding_size and hidden_size: {name} must have the shape {tuple(weight.shape)}, "
                f"got {tuple(found[name].shape)}."
            )
