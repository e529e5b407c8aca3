"""Raw texts, encoded like the documents of a data module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_advdrop.datamodules.checks import check_integers
from lightning_advdrop.datamodules.text import END, PADDING, Vocabulary
from lightning_advdrop.datamodules.text_batches import UNLABELLED, TextBatch, pad_documents
from lightning_advdrop.datamodules.tokenizing import TOKENIZERS, Tokenizer


def encode_documents(
    texts: Sequence[str], vocabulary: Vocabulary, max_tokens: int | None = 400, tokenizer: Tokenizer = "punctuation"
) -> TextBatch:
    """Encode raw texts like the documents of a data module.

    Args:
        texts: At least one text.
        vocabulary: Words, ``<unk>``, ``<pad>`` and ``<eos>`` among them.
        max_tokens: The last so many tokens of a text are kept, the end token included, at least 1; ``None`` for all.
        tokenizer: How to split a text into words: ``"punctuation"``, or ``"blanks"`` for texts like Elec's.

    Returns:
        A batch in the order of ``texts``; labels are ``UNLABELLED``.

    Raises:
        TypeError: If ``max_tokens`` is no integer.
        ValueError: If there is no text, or ``max_tokens`` or ``tokenizer`` is out of its range.

    Example:
        >>> vocabulary = Vocabulary(["<unk>", "<pad>", "<eos>", "Good"], [0, 0, 0, 5], unknown="<unk>")
        >>> encode_documents(["Good film!", ""], vocabulary).tokens
        tensor([[3, 0, 2],
                [2, 1, 1]])
    """
    check_integers(1, optional=True, max_tokens=max_tokens)
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer must be one of {', '.join(map(repr, TOKENIZERS))}, got {tokenizer!r}")
    keep = slice(None) if max_tokens is None else slice(-max_tokens, None)
    documents = [np.array(vocabulary.encode([*TOKENIZERS[tokenizer](text), END])[keep]) for text in texts]
    return pad_documents(documents, [UNLABELLED] * len(documents), vocabulary.index[PADDING])
