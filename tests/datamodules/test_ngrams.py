"""The models that language models are compared with, against counting by hand; `tests.benchmarks.ngrams` prints."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import ngrams as benchmark
from tests.helpers.corpora import n_tokens, texts, write_ptb
from tests.helpers.ngrams import Bigrams, perplexities, perplexity, unigram

N_WORDS = 7
TRAIN = np.random.default_rng(0).choice(5, 60, p=[0.4, 0.3, 0.15, 0.1, 0.05])  # words 5 and 6 never occur
EVERY = np.arange(N_WORDS)


def test_unigrams() -> None:
    found = unigram(TRAIN, N_WORDS, 0.5)
    assert found.sum() == pytest.approx(1)
    counts = Counter(TRAIN.tolist())
    assert found.tolist() == pytest.approx([(counts[word] + 0.5) / (60 + 0.5 * N_WORDS) for word in range(N_WORDS)])


def test_bigrams_are_counted() -> None:
    bigrams = Bigrams.count(TRAIN, N_WORDS)
    counts = Counter(pairwise(TRAIN.tolist()))
    for before in range(N_WORDS):
        expected = [counts[before, after] for after in range(N_WORDS)]
        assert bigrams.occurrences(np.full(N_WORDS, before), EVERY).tolist() == expected
        assert bigrams.totals[before] == sum(expected)
        assert bigrams.kinds[before] == sum(count > 0 for count in expected)
        assert bigrams.predecessors[before] == sum(counts[other, before] > 0 for other in range(N_WORDS))


@pytest.mark.parametrize("before", range(N_WORDS))
def test_interpolated_probabilities_sum_to_one(before: int) -> None:
    bigrams, lower = Bigrams.count(TRAIN, N_WORDS), unigram(TRAIN, N_WORDS, 0.1)
    witten_bell = bigrams.witten_bell(np.full(N_WORDS, before), EVERY, lower)
    kneser_ney = bigrams.kneser_ney(np.full(N_WORDS, before), EVERY, 0.7, 0.1)
    for probabilities in (witten_bell, kneser_ney):
        assert probabilities.sum() == pytest.approx(1)
        assert probabilities.min() > 0
    counts = Counter(pairwise(TRAIN.tolist()))
    total = sum(counts[before, after] for after in range(N_WORDS))
    new = sum(counts[before, after] > 0 for after in range(N_WORDS))
    for after in range(N_WORDS):
        expected = (counts[before, after] + new * lower[after]) / (total + new) if total else lower[after]
        assert witten_bell[after] == pytest.approx(expected)


def test_perplexity_of_equal_chances_is_their_number() -> None:
    assert perplexity(np.full(9, 0.25)) == pytest.approx(4)


def test_bigrams_help_where_words_depend_on_each_other() -> None:
    text = np.arange(400) % 4
    found = perplexities(text, text[:50], text[:50], 4)
    assert found["unigram"] == pytest.approx((4, 4), rel=0.05)
    assert max(found["bigram, Witten-Bell"]) < 1.1
    assert max(found["bigram, Kneser-Ney"]) < 1.1


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    content = texts()
    write_ptb(tmp_path, content)
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(tmp_path))
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(benchmark.DATA["ptb"], "n_tokens", n_tokens(content))
    monkeypatch.setattr(benchmark.DATA["ptb"], "n_words", None)
    benchmark.main(["--data", "ptb", "--train_tokens", "100"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("| ptb | 100 | ") for line in lines[2:])
