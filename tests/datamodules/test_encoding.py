from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_advdrop.datamodules import UNLABELLED, Document, DocumentError
from lightning_advdrop.datamodules.encoding import Corpus, WordRules, stratified_order
from lightning_advdrop.datamodules.text_files import Part
from tests.helpers.document_files import encoded_content
from tests.helpers.messages import refused

SPECIALS = ("<unk>", "<pad>", "<eos>")
WORDS = st.sampled_from([*"abcdefgh", *SPECIALS, "Ünï", "1"])
PARTS: tuple[Part, ...] = ("train", "test", "unlabelled")


def encoded(documents: Iterable[Document], max_words: int) -> Corpus:
    return Corpus.encode(documents, WordRules(SPECIALS, max_words=max_words, repeated=True), "Test")


def decoded(corpus: Corpus, part: Part) -> list[tuple[int, list[str]]]:
    """Labels and words of a part."""
    words, documents = corpus.vocabulary.words, corpus.parts[part]
    found = []
    for number in range(len(documents)):
        tokens = documents[number]
        assert words[tokens[-1]] == "<eos>"
        found.append((int(documents.labels[number]), [words[token] for token in tokens[:-1]]))
    return found


def filled(*documents: Document) -> list[Document]:
    """So many more that no part is empty; they have words of their own, which are dropped."""
    more = [Document("train", 0, f"z{number}", [f"once{number}"]) for number in range(8)]
    return [*documents, *more, Document("test", 0, "z", ["test"])]


@given(
    st.lists(st.tuples(st.sampled_from(PARTS), st.integers(0, 2), st.lists(WORDS, min_size=1, max_size=8)), max_size=30)
)
@settings(max_examples=50, deadline=None)
def test_it_holds_the_documents(drawn: list[tuple[Part, int, list[str]]]) -> None:
    documents = filled(*(Document(part, label, f"{n:02}", words) for n, (part, label, words) in enumerate(drawn)))
    corpus = encoded(iter(documents), max_words=100)
    parts = {part: decoded(corpus, part) for part in corpus.parts}
    # The reference: words that occur in two documents or more of those for training.
    held_out = Counter((label, tuple(words)) for label, words in parts["validation"])
    assert held_out.total() == round(0.15 * sum(document.part == "train" for document in documents))
    vocabulary = corpus.vocabulary
    known = set(vocabulary.words[3:])
    for part in PARTS:
        expected = [
            (document.label, [word if word in known else "<unk>" for word in document.words])
            for document in sorted(documents, key=lambda document: document.key)
            if document.part == part
        ]
        if part == "train":
            assert Counter((label, tuple(words)) for label, words in expected) == held_out + Counter(
                (label, tuple(words)) for label, words in parts["train"]
            )
        else:
            assert parts[part] == expected
    in_training = [words for part in ("train", "unlabelled") for _, words in parts[part]]
    occurrences = Counter(word for words in in_training for word in words)
    assert vocabulary.words[:3] == list(SPECIALS)
    assert vocabulary.counts == [
        occurrences["<unk>"],
        0,
        len(in_training),
        *(occurrences[word] for word in vocabulary.words[3:]),
    ]
    assert all(sum(word in words for words in in_training) >= 2 for word in known)


def test_the_vocabulary() -> None:
    documents = filled(
        Document("unlabelled", UNLABELLED, "a", ["twice", "twice", "both", "all", "<pad>"]),
        Document("unlabelled", UNLABELLED, "b", ["both", "all", "all", "<pad>", "seen"]),
        Document("test", 1, "c", ["seen", "twice", "both", "both"]),
    )
    corpus = encoded(documents, max_words=10)
    vocabulary = corpus.vocabulary
    held_out = len(corpus.parts["validation"])
    assert held_out == 1
    assert vocabulary.words == [*SPECIALS, "all", "both"]
    # "twice" twice, "seen", "<pad>" twice, and a word in each of the training documents
    assert vocabulary.counts == [5 + 8 - held_out, 0, 2 + 8 - held_out, 3, 2]
    corpus = encoded(documents, max_words=1)
    assert corpus.vocabulary.words == [*SPECIALS, "all"]
    assert decoded(corpus, "test")[0] == (1, ["<unk>"] * 4)


def test_words_of_validation_and_test_documents_do_not_count() -> None:
    documents = [Document("train", 0, n, ["common", f"n{n}"]) for n in range(10)]
    documents += [Document("test", 0, n, ["common", "tested", f"n{n}"]) for n in range(10)]
    assert encoded(documents, max_words=100).vocabulary.words == [*SPECIALS, "common"]


def test_the_order_of_reading_does_not_matter(tmp_path: Path) -> None:
    documents = filled(*(Document("train", n % 2, f"{n}", ["a", "b"] * n + ["c"]) for n in range(1, 9)))
    stores = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        encoded(documents if number else documents[::-1], max_words=9).save(folder)
        stores.append(encoded_content(Corpus.load(folder)))
    assert stores[0] == stores[1]


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_part_without_documents(missing: str) -> None:
    documents = [document for document in filled() if document.part != missing]
    with refused("Test", missing, 4, 1, error=DocumentError):
        encoded(documents, max_words=9)


def test_tokens_stay_on_the_disk(tmp_path: Path) -> None:
    encoded(filled(), max_words=9).save(tmp_path)
    documents = Corpus.load(tmp_path).parts["train"]
    assert isinstance(documents.tokens, np.memmap)
    assert documents.choose(np.array([1, 0])).tokens is documents.tokens


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", ["tokens.npy", "test.npy", "vocabulary.json"])
@pytest.mark.parametrize(
    ("spoil", "got"), [(halve, "damaged"), (zero, "damaged"), (Path.unlink, "No such file")], ids=["half", "0", "gone"]
)
def test_damage_to_the_files_is_told_with_their_folder(
    name: str, spoil: Callable[[Path], None], got: str, tmp_path: Path
) -> None:
    encoded(filled(), max_words=9).save(tmp_path)
    spoil(tmp_path / name)
    with refused(tmp_path, "prepared", got, "delete this folder", error=DocumentError) as caught:
        Corpus.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
def test_every_beginning_has_the_classes_in_proportion(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = stratified_order(array, seed)
    assert sorted(order) == list(range(len(labels)))
    total = np.bincount(array, minlength=5)
    for size in range(1, len(labels) + 1):
        counts = np.bincount(array[order[:size]], minlength=5)
        assert np.abs(counts - size * total / len(labels)).max() <= 3


def test_the_order_is_made_by_the_seed() -> None:
    labels = np.arange(40) % 2
    assert stratified_order(labels, 0).tolist() == stratified_order(labels, 0).tolist()
    assert stratified_order(labels, 0).tolist() != stratified_order(labels, 1).tolist()
