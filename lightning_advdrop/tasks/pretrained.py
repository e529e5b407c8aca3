"""Start a classifier from the checkpoint of a language model."""

from __future__ import annotations

from pathlib import Path

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.nn import DocumentEncoder
from lightning_advdrop.tasks.checkpoints import check_shapes
from lightning_advdrop.tasks.text_pretraining import TextPretrainingTask

# Where the encoder stands in a checkpoint of TextPretrainingTask.
_PREFIX = "model.encoder."


def load_pretrained(
    encoder: DocumentEncoder, argument: str, path: str | Path, *, vocabulary: Vocabulary, reverse: bool
) -> None:
    """Give an encoder the embedding and LSTM of a pre-trained language model.

    Args:
        encoder: what gets the weights.
        argument: the name of the argument that ``path`` was given as, for messages.
        path: a checkpoint of `lightning_advdrop.tasks.TextPretrainingTask`.
        vocabulary: the words of the data, which have to be those of the checkpoint.
        reverse: whether the encoder reads from the last word to the first, as the language model must as well.

    Raises:
        MissingCheckpointError: if there is no such file.
        ValueError: if it can't be read, is another checkpoint, or does not fit.
    """
    where = f"{argument}={str(path)!r}"
    checkpoint = TextPretrainingTask.read(argument, path, vocabulary)
    found = checkpoint["text"]["reverse"]
    if found != reverse:
        raise ValueError(f"{where} must be of a model trained with reverse={reverse}, got reverse={found}.")
    named = checkpoint["state_dict"].items()
    weights = {name.removeprefix(_PREFIX): weight for name, weight in named if name.startswith(_PREFIX)}
    check_shapes(where, "embedding_size and hidden_size", weights, encoder.state_dict())
    encoder.load_state_dict(weights)
