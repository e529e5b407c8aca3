"""Write text with a language model."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_advdrop._ranges import check_range
from lightning_advdrop.datamodules.text import END, Vocabulary
from lightning_advdrop.tasks.base_task import evaluating
from lightning_advdrop.tasks.language_modeling import LanguageModelingTask


class GeneratedText(NamedTuple):
    """The result of `generate`.

    Attributes:
        words: the words behind the prompt.
        replaced: the words of the prompt that are not in the vocabulary and were read as the word for unknown ones.
    """

    words: list[str]
    replaced: list[str]

    @property
    def text(self) -> str:
        """The words with spaces between them, and line breaks where lines end."""
        lines: list[list[str]] = [[]]
        for word in self.words:
            if word == END:
                lines.append([])
            else:
                lines[-1].append(word)
        return "\n".join(" ".join(line) for line in lines)


def generate(
    task: LanguageModelingTask,
    prompt: str,
    length: int = 50,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    allow_unknown: bool = False,
) -> GeneratedText:
    """Continue a text, word by word.

    Each word is drawn from the softmax of the logits divided by ``temperature``, among the ``top_k`` most probable
    ones. Dropout is off, as in evaluation.

    Args:
        task: a language model with a vocabulary, see `load_language_model`.
        prompt: the beginning: words between white space, as the training text has them, and line breaks. An empty one
            is the beginning of a line.
        length: the words to write, ends of lines included, at least 1.
        temperature: above 0; below 1 the probable words become more probable. 0 always takes the most probable one.
        top_k: how many words there are to choose from, at least 1; 0 for all.
        seed: of the random draws, at least 0.
        allow_unknown: whether the word for unknown ones may be written.

    Raises:
        ValueError: if an argument is out of its range, the task has no vocabulary, or a word of the prompt is
            not in the vocabulary and that has no word for unknown ones.
    """
    _check(length, temperature, top_k, seed)
    if not task.made or task.vocabulary is None:
        raise ValueError("task must have a vocabulary, got one without: load it from a checkpoint.")
    words, unknown = task.vocabulary.words, task.vocabulary.unknown
    numbers, replaced = _read_prompt(prompt, task.vocabulary)
    banned = None if allow_unknown or unknown is None else words.index(unknown)
    if banned is not None and len(words) == 1:
        raise ValueError(f"allow_unknown must be true for a vocabulary of {unknown} alone, got False.")
    generator = torch.Generator().manual_seed(seed)
    states, written = None, []
    with evaluating(task), torch.inference_mode():
        for _ in range(length):
            output = task(torch.tensor(numbers, device=task.device)[:, None], states)
            states, numbers = output.states, [_choose(output.logits[-1, 0], temperature, top_k, banned, generator)]
            written += numbers
    return GeneratedText([words[number] for number in written], replaced)


def _choose(logits: Tensor, temperature: float, top_k: int, banned: int | None, generator: torch.Generator) -> int:
    """The number of the next word, given the logits ``(V,)``."""
    logits = logits.cpu().float()  # the same words from the same seed on every device
    if banned is not None:
        logits[banned] = -math.inf
    if temperature == 0:
        return int(logits.argmax())
    if 0 < top_k < len(logits):
        kept = logits.topk(top_k)
        logits = torch.full_like(logits, -math.inf).scatter(0, kept.indices, kept.values)
    # The largest is subtracted first, so that the others go to 0 and it does not overflow at a low temperature.
    probabilities = ((logits - logits.max()) / temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _read_prompt(prompt: str, vocabulary: Vocabulary) -> tuple[list[int], list[str]]:
    """The numbers of a prompt's words, and the words that are not in the vocabulary."""
    has_lines = END in vocabulary.index
    found = prompt.replace("\n", f" {END} " if has_lines else " ").split()
    if not found:
        if not has_lines:
            raise ValueError(f"prompt must have a word where the vocabulary has no {END}, got {prompt!r}.")
        found = [END]
    missing = list(dict.fromkeys(word for word in found if word not in vocabulary.index))
    if missing and vocabulary.unknown is None:
        raise ValueError(
            f"prompt must be of words of the vocabulary, which has no word for others, got {', '.join(missing)}."
        )
    return vocabulary.encode(found), missing


def _check(length: int, temperature: float, top_k: int, seed: int) -> None:
    check_range("at least 1", length=length)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be at least 0, got {temperature}.")
    if top_k < 0:
        raise ValueError(f"top_k must be at least 1, or 0 for all words, got {top_k}.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be in [0, 2**63), got {seed}.")
