"""Networks that read documents, compared with the same written out for one document at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import apply, find_sites
from lightning_advdrop.nn import DocumentClassifier, DocumentEncoder, DocumentLanguageModel, reversed_documents
from tests.helpers.messages import refused

COUNTS = [1, 0, 4, 3, 2, 1, 1, 1]
TOKENS = torch.tensor([[3, 4, 5, 2], [6, 2, 1, 1], [7, 3, 2, 1]])
LENGTHS = torch.tensor([4, 2, 3])


def last_output(encoder: DocumentEncoder, tokens: Tensor) -> Tensor:
    """What a stock LSTM with the same weights returns at the end of one document, ``(H,)``."""
    lstm = nn.LSTM(encoder.lstm.input_size, encoder.lstm.hidden_size)
    lstm.load_state_dict(encoder.lstm.state_dict())
    _, (hidden, _) = lstm(encoder.embedding.table()[tokens])
    return hidden[0]  # type: ignore[no-any-return]


def test_the_output_is_that_at_the_last_real_token() -> None:
    encoder = DocumentEncoder(COUNTS, 5, 6, padding_index=1).eval()
    expected = [last_output(encoder, row[:n]) for row, n in zip(TOKENS, LENGTHS, strict=True)]
    torch.testing.assert_close(encoder(TOKENS, LENGTHS), torch.stack(expected))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("classes", "logits"), [(2, 1), (4, 4)])
def test_the_classifier(classes: int, logits: int, bidirectional: bool) -> None:
    model = DocumentClassifier(COUNTS, classes, 5, 6, 7, padding_index=1, bidirectional=bidirectional).eval()
    found = model(TOKENS, LENGTHS)
    assert found.shape == (3, logits)
    first, last = (part for part in model.head if isinstance(part, nn.Linear))
    assert (first.in_features, first.out_features) == (12 if bidirectional else 6, 7)
    for row, n, given in zip(TOKENS, LENGTHS, found, strict=True):
        read = last_output(model.encoder, row[:n])
        if model.backward_encoder is not None:
            read = torch.cat([read, last_output(model.backward_encoder, row[:n].flip(0))])
        torch.testing.assert_close(given, last(first(read).relu()))


def test_the_sites_of_a_classifier() -> None:
    model = DocumentClassifier(COUNTS, 2, 5, 6, bidirectional=True)
    names = {kind: [site.name for site in find_sites(model, kind)] for kind in ("recurrent", "embedding", "dropout")}
    assert names == {
        "recurrent": ["encoder.lstm.l0:recurrent", "backward_encoder.lstm.l0:recurrent"],
        "embedding": ["encoder.embedding:embedding", "backward_encoder.embedding:embedding"],
        "dropout": ["encoder.dropout:dropout", "backward_encoder.dropout:dropout"],
    }


def test_a_mask_of_one_document_changes_that_document_only() -> None:
    model = DocumentClassifier(COUNTS, 2, 5, 6).eval()
    (site,) = find_sites(model, "recurrent")
    mask = torch.ones(3, 6)
    mask[1] = 0
    before = model(TOKENS, LENGTHS)
    with apply(model, {site: mask}):
        after = model(TOKENS, LENGTHS)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_documents_are_reversed_within_their_length() -> None:
    expected = [[2, 5, 4, 3], [2, 6, 1, 1], [2, 3, 7, 1]]
    assert reversed_documents(TOKENS, LENGTHS).tolist() == expected
    assert torch.equal(reversed_documents(reversed_documents(TOKENS, LENGTHS), LENGTHS), TOKENS)


def test_the_language_models_loss_is_that_of_its_probabilities() -> None:
    model = DocumentLanguageModel(COUNTS, 5, 16, cutoffs=[3, 6, 100])
    outputs, _ = model(TOKENS[:, :-1])
    targets = TOKENS[:, 1:]
    probabilities = model.softmax.log_prob(outputs.flatten(0, 1)).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(9))
    expected = -probabilities[torch.arange(9), targets.flatten()].log().mean()
    torch.testing.assert_close(model.loss(outputs, targets), expected)
    assert model.softmax.cutoffs == [3, 6, 8]


def test_clusters_without_a_word_to_predict_have_a_gradient_of_zero() -> None:
    model = DocumentLanguageModel(COUNTS, 5, 16, cutoffs=[3, 6])
    outputs, _ = model(TOKENS)
    model.loss(outputs, torch.full_like(TOKENS, 4)).backward()  # type: ignore[no-untyped-call]
    first, second = ([part.grad for part in cluster.parameters()] for cluster in model.softmax.tail)
    assert all(grad is not None and grad.any() for grad in first)
    assert all(grad is not None and not grad.any() for grad in second)


def test_a_text_read_in_parts_is_read_as_a_whole() -> None:
    model, states = DocumentLanguageModel(COUNTS, 5, 6, cutoffs=[3]).eval(), None
    parts = []
    for part in torch.split(TOKENS, 2, dim=1):
        outputs, states = model(part, states)
        parts.append(outputs)
    whole = model(TOKENS)
    torch.testing.assert_close(torch.cat(parts, 1), whole.outputs)
    torch.testing.assert_close(states, whole.states)


@pytest.mark.parametrize("cutoffs", [[], [8], [100, 200]])
def test_a_vocabulary_below_all_cutoffs_is_cut_in_its_middle(cutoffs: list[int]) -> None:
    assert DocumentLanguageModel(COUNTS, 5, 6, cutoffs=cutoffs).softmax.cutoffs == [4, 8]


@pytest.mark.parametrize("cutoffs", [[0, 3], [3, 3], [5, 2]])
def test_cutoffs_are_checked(cutoffs: list[int]) -> None:
    with refused("cutoffs", 1, "rise", cutoffs):
        DocumentLanguageModel(COUNTS, 5, 6, cutoffs=cutoffs)


def test_the_last_cluster_needs_features() -> None:
    with refused("hidden_size", 16, "2 cutoffs", 6):
        DocumentLanguageModel(COUNTS, 5, 6, cutoffs=[3, 6])


def test_an_untrained_language_model_knows_nothing() -> None:
    model = DocumentLanguageModel([1] * 50, 16, 16, cutoffs=[49])
    outputs, _ = model(torch.randint(50, (20, 30)))
    loss = model.loss(outputs, torch.randint(50, (20, 30))).detach()
    assert float(loss) == pytest.approx(math.log(50), abs=0.8)
