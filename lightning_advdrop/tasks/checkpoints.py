"""Language models from checkpoints, for what is done with them after training."""

from __future__ import annotations

from pathlib import Path

from lightning_advdrop.tasks.language_modeling import LanguageModelingTask
from lightning_advdrop.tasks.pretrained import read_checkpoint
from lightning_advdrop.tasks.weights import WORDS, check_kind


def load_language_model(path: str | Path) -> LanguageModelingTask:
    """Loads a language model with its vocabulary, ready to evaluate.

    Args:
        path: a checkpoint of a `LanguageModelingTask` that was trained with a data module with a vocabulary. Where
            weights were averaged, the average is loaded.

    Returns:
        The task on the CPU, in evaluation mode; its ``words`` are the vocabulary.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or one of another kind of task.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"ckpt_path must be a checkpoint file, got {str(path)!r}, which does not exist.")
    content = read_checkpoint("ckpt_path", path)
    check_kind(content, f"ckpt_path={str(path)!r}")
    words = content.get(WORDS)
    if not words:
        raise ValueError(
            f"ckpt_path must be a checkpoint with a vocabulary, got {str(path)!r}, which has none: train with a data "
            "module that has one."
        )
    # The number of words is given, since the checkpoint's settings may leave it to the data.
    task = LanguageModelingTask.load_from_checkpoint(
        path, map_location="cpu", weights_only=True, vocabulary_size=len(words)
    )
    return task.eval()
