from __future__ import annotations

import re

import torchtext.data
from hypothesis import given
from hypothesis import strategies as st

from lightning_advdrop.datamodules import Vocabulary, encode_documents
from lightning_advdrop.datamodules.text import TOKENIZERS, split_at_punctuation
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from tests.helpers.messages import refused

VOCABULARY = Vocabulary(["<unk>", "<pad>", "<eos>", "Good", "it", "."], [0, 0, 0, 5, 4, 3], unknown="<unk>")


@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=127))))
def test_words_are_runs_of_word_characters(text: str) -> None:
    words = split_at_punctuation(text)
    assert words == re.findall(r"\w+", text)
    assert TOKENIZERS["blanks"](" ".join(words)) == words


def test_case_is_kept_and_letters_of_all_languages_are_letters() -> None:
    assert split_at_punctuation("Amélie isn't BAD: 10/10!") == ["Amélie", "isn", "t", "BAD", "10", "10"]


def test_it_is_a_tokenizer_for_torchtext() -> None:
    field = torchtext.data.Field(tokenize=split_at_punctuation)
    assert field.preprocess("Not bad, not good.") == ["Not", "bad", "not", "good"]
    assert torchtext.data.get_tokenizer(split_at_punctuation) is split_at_punctuation


def test_texts_are_encoded_like_documents() -> None:
    batch = encode_documents(["Good film, it is it.", "", "it"], VOCABULARY)
    assert batch.tokens.tolist() == [[3, 0, 4, 0, 4, 2], [2, 1, 1, 1, 1, 1], [4, 2, 1, 1, 1, 1]]
    assert batch.lengths.tolist() == [6, 1, 2]
    assert batch.labels.tolist() == [UNLABELLED] * 3


def test_the_end_of_a_text_is_kept() -> None:
    assert encode_documents(["Good it Good it"], VOCABULARY, 3).tokens.tolist() == [[3, 4, 2]]
    assert encode_documents(["Good it " * 300], VOCABULARY).tokens.shape == (1, 400)
    assert encode_documents(["Good it " * 300], VOCABULARY, None).tokens.shape == (1, 601)


def test_texts_that_are_published_in_words() -> None:
    assert encode_documents(["it . it."], VOCABULARY, tokenizer="blanks").tokens.tolist() == [[4, 5, 0, 2]]


def test_what_cannot_be_encoded() -> None:
    with refused("documents", 0, 0):
        encode_documents([], VOCABULARY)
    with refused("max_tokens", 1, 0):
        encode_documents(["it"], VOCABULARY, 0)
    with refused("max_tokens", 1, "'9'", error=TypeError):
        encode_documents(["it"], VOCABULARY, "9")  # type: ignore[arg-type]
    with refused("tokenizer", "'punctuation'", "'blanks'", "'spacy'"):
        encode_documents(["it"], VOCABULARY, tokenizer="spacy")  # type: ignore[arg-type]
    assert set(TOKENIZERS) == {"punctuation", "blanks"}
