"""Read checkpoints of the tasks, in the formats of all releases."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from lightning_advdrop.datamodules.text import Vocabulary

_UNKNOWN = "<unk>"
_VOCABULARY = {"words", "counts", "unknown"}


class MissingCheckpointError(FileNotFoundError, ValueError):
    """Raised if the value of an argument is the path of a file that does not exist."""


def check_whole(argument: str, path: str | Path) -> None:
    """Check that the file whose path was given as an argument of that name is a checkpoint as it was written.

    torch does not compare the checksums in a checkpoint with its content.

    Raises:
        MissingCheckpointError: if there is no such file.
        ValueError: if it is truncated, damaged or something else.

    Example:
        >>> check_whole("ckpt_path", __file__)
        Traceback (most recent call last):
        ...
        ValueError: ckpt_path='...' must be a checkpoint file, got one that can't be read: it is truncated or none.
    """
    where = f"{argument}={str(path)!r}"
    if not Path(path).is_file():
        raise MissingCheckpointError(f"{where} must be a checkpoint file, got no such file.")
    try:
        with zipfile.ZipFile(path) as content:
            damaged = content.testzip()
    except Exception:  # whatever damage makes of a zip archive
        raise ValueError(
            f"{where} must be a checkpoint file, got one that can't be read: it is truncated or none."
        ) from None
    if damaged is not None:
        raise ValueError(f"{where} must be a checkpoint file, got one that is damaged: {damaged} has another checksum.")


def read_checkpoint(argument: str, path: str | Path) -> dict[str, Any]:
    """Read the checkpoint file whose path was given as an argument of that name.

    Raises:
        MissingCheckpointError: if there is no such file.
        ValueError: if it can't be read.
    """
    where = f"{argument}={str(path)!r}"
    check_whole(argument, path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a foreign file makes of unpickling
        raise ValueError(
            f"{where} must be a checkpoint file of weights and plain types, got one that can't be read."
        ) from error
    return content if isinstance(content, dict) else {}


def plain(value: Any) -> Any:
    """Return a value in types that can be loaded with ``weights_only=True``: no paths, and no numbers of NumPy.

    Example:
        >>> import numpy as np
        >>> plain({"pretrained": Path("a.ckpt"), "rates": (np.float32(0.5), 1)})
        {'pretrained': 'a.ckpt', 'rates': (0.5, 1)}
    """
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def saved_vocabulary(checkpoint: Mapping[str, Any]) -> Vocabulary | None:
    """Return the vocabulary of a checkpoint's content; None if it has none.

    Example:
        >>> saved_vocabulary({"vocabulary": {"words": ["<unk>", "to"], "counts": [1, 2], "unknown": "<unk>"}}).counts
        [1, 2]
        >>> saved_vocabulary({"vocabulary": ["<unk>", "to"]}).unknown  # of a language model, up to release 0.1
        '<unk>'
    """
    saved = checkpoint.get("vocabulary")
    if not saved:
        return None
    if isinstance(saved, dict):
        if saved.keys() != _VOCABULARY:
            raise ValueError(
                f"vocabulary must have {', '.join(sorted(_VOCABULARY))}, got {', '.join(map(str, saved))}."
            )
        return Vocabulary(**saved)
    return Vocabulary(saved, [0] * len(saved), _UNKNOWN if _UNKNOWN in saved else None)


def check_read_alike(where: str, what: str, saved: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Check that data are read in the way in which those were that a network was trained on.

    Args:
        where: where the network is from, for the message.
        what: what the data are, in the plural.
        saved: its settings, by name.
        data: those of the data. A setting that one of the two lacks may be any.

    Raises:
        ValueError: if a setting differs; it names the first one.

    Example:
        >>> check_read_alike("ckpt_path", "texts", {"reverse": False}, {"reverse": True})
        Traceback (most recent call last):
        ...
        ValueError: ckpt_path was trained on texts with reverse=False, got data with reverse=True; use the settings ...
    """
    for name, theirs in saved.items():
        ours = data.get(name, theirs)
        if ours != theirs:
            raise ValueError(
                f"{where} was trained on {what} with {name}={theirs!r}, got data with {name}={ours!r}; use the "
                "settings of the data that it was trained on."
            )


def check_shapes(where: str, settings: str, found: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
    """Check that the weights found ``where`` have the names and shapes that ``settings`` make a model need.

    Raises:
        ValueError: if they differ; it names the first difference.

    Example:
        >>> check_shapes("ckpt_path", "settings", {"bias": torch.ones(2)}, {"bias": torch.ones(3)})
        Traceback (most recent call last):
        ...
        ValueError: ckpt_path must be a checkpoint of the same settings: bias must have the shape (3,), got (2,).
    """
    for name in sorted(found.keys() | needed.keys()):
        shape, wanted = (tuple(state[name].shape) if name in state else None for state in (found, needed))
        if shape != wanted:
            raise ValueError(
                f"{where} must be a checkpoint of the same {settings}: {name} must have the shape {wanted}, got {shape}"
                f"{' (None: it is missing)' if None in (shape, wanted) else ''}."
            )
