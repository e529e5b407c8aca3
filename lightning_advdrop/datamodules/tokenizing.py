"""Splitting raw text into words."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from lightning_advdrop.datamodules.text import END, UNKNOWN

_words = re.compile(r"\w+").findall
# For ASCII text, twice as fast as the regular expression: all other characters become blanks.
_BLANKS = "".join(chr(code) if re.match(r"\w", chr(code)) else " " for code in range(128))
_words_and_signs = re.compile(rf"{UNKNOWN}|{END}|\w+(?:['\u2019]\w+)*|[^\w\s]").findall


def split_at_punctuation(text: str) -> list[str]:
    """Split text into words: runs of letters, digits and underscores, in upper and lower case as they are.

    All other characters, such as punctuation and markup, separate words and are dropped. torchtext 0.6.0 accepts this
    function in ``get_tokenizer`` and ``Field(tokenize=...)``.

    Args:
        text: Any text.

    Returns:
        Its words in their order; empty if there is none.

    Example:
        >>> split_at_punctuation("It isn't bad... at all!<br />")
        ['It', 'isn', 't', 'bad', 'at', 'all', 'br']
    """
    return text.translate(_BLANKS).split() if text.isascii() else _words(text)


Tokenizer = Literal["punctuation", "blanks"]
"""Name of a way to split documents."""
TOKENIZERS: Mapping[Tokenizer, Callable[[str], list[str]]] = {"punctuation": split_at_punctuation, "blanks": str.split}
"""Ways to split documents; at blanks are split those that are published in words."""

Tokens = Literal["whitespace", "word"]
"""Name of a way to split a running text."""
TEXT_TOKENIZERS: Mapping[Tokens, Callable[[str], list[str]]] = {"whitespace": str.split, "word": _words_and_signs}
"""Ways to split a running text; words hold apostrophes, and other signs are words of their own."""
