"""Splitting raw text into words."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from lightning_advdrop.datamodules.text import END, UNKNOWN

_words = re.compile(r"\w+").findall
# For ASCII text, half the time of the regular expression: every other character becomes a blank.
_BLANKS = "".join(chr(code) if re.match(r"\w", chr(code)) else " " for code in range(128))
_words_and_signs = re.compile(rf"{UNKNOWN}|{END}|\w+(?:['\u2019]\w+)*|[^\w\s]").findall


def split_at_punctuation(text: str) -> list[str]:
    """Split text into words: runs of letters, digits and underscores, in upper and lower case as they are.

    Whatever else there is, punctuation and markup signs, separates words and is left out. It can be given to
    torchtext 0.6.0's ``get_tokenizer`` or ``Field(tokenize=...)``.

    Args:
        text: Any text.

    Returns:
        Its words in their order; empty if there is none.

    Example:
        >>> split_at_punctuation("It isn't bad... at all!<br />")
        ['It', 'isn', 't', 'bad', 'at', 'all', 'br']
    """
    return text.translate(_BLANKS).split() if text.isascii() else _words(text)


def split_at_blanks(text: str) -> list[str]:
    """Split text that is published in words: at blanks, and nowhere else.

    Args:
        text: Words with blanks between them.

    Returns:
        Its words in their order; empty if there is none.

    Example:
        >>> split_at_blanks("it is n't bad .")
        ['it', 'is', "n't", 'bad', '.']
    """
    return text.split()


def split_words_and_signs(text: str) -> list[str]:
    """Split text into words, with apostrophes inside, and single other characters; case is kept.

    Args:
        text: Any text; ``<unk>`` and ``<eos>`` in it stay whole.

    Returns:
        Its words and signs in their order; empty if there is none.

    Example:
        >>> split_words_and_signs("It isn't bad.<eos>")
        ['It', "isn't", 'bad', '.', '<eos>']
    """
    return _words_and_signs(text)


Tokenizer = Literal["punctuation", "blanks"]
"""Name of a way to split documents."""
TOKENIZERS: Mapping[Tokenizer, Callable[[str], list[str]]] = {
    "punctuation": split_at_punctuation,
    "blanks": split_at_blanks,
}
"""Ways to split documents by name."""

Tokens = Literal["whitespace", "word"]
"""Name of a way to split a running text."""
TEXT_TOKENIZERS: Mapping[Tokens, Callable[[str], list[str]]] = {
    "whitespace": split_at_blanks,
    "word": split_words_and_signs,
}
"""Ways to split a running text by name."""
