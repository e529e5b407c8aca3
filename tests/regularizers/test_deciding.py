"""Choosing a divergence by the model's loss, by the labels, or asking for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.functional import bernoulli_kl, mse
from lightning_advdrop.regularizers import AdversarialDropout, AdversarialTraining, Comparison, LossWatch, RDrop, decide
from tests.helpers.messages import names, refused

BATCH, STEPS, CLASSES = 6, 5, 3
_DRAWN = torch.randint(CLASSES, (BATCH, STEPS + 1), generator=torch.Generator().manual_seed(0))
LABELS, TAGS = _DRAWN[:, 0], _DRAWN[:, 1:].contiguous()
HEAD = nn.Linear(4, CLASSES)


def predicted(*shape: int, grad: bool = True) -> Tensor:
    """A prediction of any shape, with a graph, as a head makes it."""
    return torch.randn(*shape, requires_grad=grad) * 2 + 1


def seen(prediction: Tensor, loss: Callable[[Tensor], Any], asked: Any = "auto", **known: Any) -> Comparison:
    with LossWatch() as watch:
        loss(prediction)
    return decide(asked, prediction, losses=watch.seen, **known)


ones = torch.ones(BATCH)
BY_LOSS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Any], str]] = {
    "cross_entropy": ((BATCH, 3), lambda p: F.cross_entropy(p, LABELS), "as classes (kl)"),
    "class probabilities": ((BATCH, 3), lambda p: F.cross_entropy(p, p.detach().softmax(-1)), "as classes (kl)"),
    "outside": ((BATCH, 3), lambda p: F.nll_loss(p.log_softmax(-1), LABELS), "as classes (kl)"),
    "flat": ((BATCH, STEPS, 3), lambda p: F.cross_entropy(p.view(-1, 3), TAGS.view(-1)), "as classes (kl)"),
    "shifted": (
        (BATCH, STEPS, 3),
        lambda p: F.cross_entropy(p[:, :-1].reshape(-1, 3), TAGS[:, 1:].reshape(-1)),
        "as classes (kl)",
    ),
    "ignored": (
        (BATCH, STEPS, 3),
        lambda p: F.cross_entropy(p.transpose(1, 2), TAGS, ignore_index=2),
        "as classes (kl), without what is labelled 2",
    ),
    "as torch has it": (
        (BATCH, 3, STEPS),
        lambda p: F.cross_entropy(p, TAGS),
        "as classes (kl), classes in dimension 1",
    ),
    "images": (
        (2, 3, 4, 4),
        lambda p: F.cross_entropy(p, torch.zeros(2, 4, 4, dtype=torch.long)),
        "as classes (kl), classes in dimension 1",
    ),
    "square, classes first": (
        (BATCH, 3, 3),
        lambda p: F.cross_entropy(p, TAGS[:, :3]),
        "as classes (kl), classes in dimension 1",
    ),
    "square, classes last": (
        (BATCH, 3, 3),
        lambda p: F.cross_entropy(p.transpose(1, 2), TAGS[:, :3]),
        "as classes (kl)",
    ),
    "square, log-softmax of the last": (
        (BATCH, 3, 3),
        lambda p: F.nll_loss(p.log_softmax(-1).transpose(1, 2), TAGS[:, :3]),
        "as classes (kl)",
    ),
    "a map of labels": (
        (BATCH, 2, 4, 5),
        lambda p: F.binary_cross_entropy_with_logits(p, p.detach().sigmoid()),
        "as labels (bernoulli_kl), labels in dimension 1",
    ),
    "one logit": (
        (BATCH,),
        lambda p: F.binary_cross_entropy_with_logits(p, ones),
        "as one logit each (bernoulli_kl)",
    ),
    "one logit in a column": (
        (BATCH, 1),
        lambda p: F.binary_cross_entropy_with_logits(p.squeeze(-1), ones),
        "as labels (bernoulli_kl)",
    ),
    "sigmoid outside": (
        (BATCH,),
        lambda p: F.binary_cross_entropy(p.sigmoid(), ones),
        "as one logit each (bernoulli_kl)",
    ),
    "several": (
        (BATCH, 3),
        lambda p: F.binary_cross_entropy_with_logits(p, p.detach().sigmoid()),
        "as labels (bernoulli_kl)",
    ),
    "forecast": ((BATCH, 12), lambda p: F.mse_loss(p, torch.zeros(BATCH, 12)), "as numbers (mse)"),
    "one number": ((BATCH,), lambda p: F.huber_loss(p, ones), "as numbers (mse)"),
    "masked": ((BATCH, 12), lambda p: F.l1_loss(p[p > 0], p[p > 0].detach()), "as numbers (mse)"),
    "an auxiliary loss": (
        (BATCH, 3),
        lambda p: F.mse_loss(p.mean(0), torch.zeros(3)) + F.cross_entropy(p, LABELS),
        "as classes (kl)",
    ),
    "two losses of the same": (
        (BATCH, 3),
        lambda p: F.mse_loss(p, torch.zeros(BATCH, 3)) + F.cross_entropy(p, LABELS),
        "as classes (kl)",
    ),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", BY_LOSS)
def test_the_models_own_loss_decides(name: str, grad: bool) -> None:
    shape, loss, expected = BY_LOSS[name]
    if name == "masked" and not grad:
        pytest.skip("only the graph tells that it is a part of the prediction")
    assert str(seen(predicted(*shape, grad=grad), loss)) == expected


def test_probabilities_are_told_from_logits() -> None:
    p = predicted(BATCH, 3)
    classes = "as class probabilities (kl)"
    assert str(seen(p.softmax(-1), lambda q: F.nll_loss(q.log(), LABELS))) == classes
    assert str(seen(p.softmax(-1), lambda q: F.cross_entropy(q, LABELS))) == classes
    assert str(decide("kl", p.softmax(-1))) == classes
    assert str(decide("ce", p.bfloat16().softmax(-1))) == "as class probabilities (ce)"
    assert str(decide("kl", p.softmax(1).transpose(0, 1), class_dim=1)) == "as classes (kl)"
    for logits in (p, p.log_softmax(-1), p.sigmoid(), p.softmax(-1) * 2):
        assert not decide("kl", logits).probabilities
    one = torch.linspace(0.1, 0.9, BATCH)
    assert str(seen(one, lambda q: F.binary_cross_entropy(q, ones))) == "as one probability each (bernoulli_kl)"
    clamped = seen(one, lambda q: F.binary_cross_entropy(q.clamp(0.2, 0.8), ones))
    assert str(clamped) == "as one probability each (bernoulli_kl)"
    assert not seen(one, lambda q: F.binary_cross_entropy(q.sigmoid(), ones)).probabilities
    assert not seen(one, lambda q: F.binary_cross_entropy_with_logits(q, ones)).probabilities


BY_LABELS: list[tuple[tuple[int, ...], Tensor, str]] = [
    ((BATCH, 3), LABELS, "as classes (kl)"),
    ((BATCH, 3), LABELS.int(), "as classes (kl)"),
    ((BATCH, 3), torch.full((BATCH,), -100), "as classes (kl)"),
    ((BATCH, STEPS, 3), TAGS, "as classes (kl)"),
    ((BATCH, 3, STEPS), TAGS, "as classes (kl), classes in dimension 1"),
    ((BATCH,), torch.tensor([0, 1, 1, -100, 0, 1]), "as one logit each (bernoulli_kl)"),
    ((BATCH, 1), torch.tensor([0, 1, 1, 0, 0, 1]), "as labels (bernoulli_kl)"),
    ((BATCH, 3), torch.ones(BATCH, 3).bool(), "as labels (bernoulli_kl)"),
    ((BATCH, 12), torch.randn(BATCH, 12), "as numbers (mse)"),
    ((BATCH, 1), torch.randn(BATCH), "as numbers (mse)"),
    ((BATCH,), torch.randn(BATCH), "as numbers (mse)"),
]


@pytest.mark.parametrize(("shape", "target", "expected"), BY_LABELS)
def test_labels_decide_where_no_loss_is_seen(shape: tuple[int, ...], target: Tensor, expected: str) -> None:
    assert str(decide("auto", predicted(*shape), target)) == expected


UNCLEAR: list[tuple[tuple[int, ...], Tensor | None, tuple[object, ...]]] = [
    ((BATCH, 3), None, ("no labels", "'kl'", "'bernoulli_kl'", "'mse'")),
    ((BATCH,), None, ("no labels", "'bernoulli_kl'", "'mse'")),
    ((BATCH,), torch.arange(BATCH), ("whole numbers", 5, "'mse'")),
    ((BATCH,), ones, (0.0, 1.0, "'bernoulli_kl'", "'mse'")),
    ((BATCH, 3), torch.rand(BATCH, 3).softmax(-1), ("class probabilities", "'kl'", "'mse'")),
    ((BATCH, 3), torch.arange(BATCH), ("from 0 to 5", "'kl'")),
    ((BATCH, 3), LABELS.float(), (torch.float32, (BATCH,), "'kl'")),
    ((BATCH, 3), TAGS, (torch.int64, (BATCH, STEPS), "'kl'")),
    ((BATCH, 3, 3), TAGS[:, :3], ("dimension 1 or 2", "class_dim")),
]


@pytest.mark.parametrize(("shape", "target", "parts"), UNCLEAR)
def test_what_labels_do_not_tell_is_asked_for(
    shape: tuple[int, ...], target: Tensor | None, parts: tuple[object, ...]
) -> None:
    with refused("divergence='auto'", shape, *parts):
        decide("auto", predicted(*shape), target)
    assert decide("mse", predicted(*shape), target).divergence == "mse"


def test_a_loss_of_something_else_is_no_loss_of_the_prediction() -> None:
    features = torch.randn(BATCH, 4, requires_grad=True) + 1
    with refused("divergence='auto'", (BATCH, 4), "cross_entropy", (BATCH, 3), "'kl'"):
        seen(features, lambda p: F.cross_entropy(HEAD(p), LABELS), target=LABELS)
    with refused("divergence='auto'", (BATCH, 3), "mse_loss", (3,)):
        seen(predicted(BATCH, 3), lambda p: F.mse_loss(p.mean(0), torch.zeros(3)), target=LABELS)


def test_class_dim_and_ignore_index_may_be_given() -> None:
    p = predicted(BATCH, 3, 3)
    assert decide("auto", p, TAGS[:, :3], class_dim=1).class_dim == 1
    assert decide("auto", p, TAGS[:, :3], class_dim=2).class_dim == -1
    assert seen(p, lambda q: F.cross_entropy(q, TAGS[:, :3], ignore_index=1), ignore_index=0).ignore_index == 0
    assert decide("ce", p, TAGS[:, :3], class_dim=-2).class_dim == 1
    for wrong in (0, 3, -3, -4):
        with refused("class_dim", (BATCH, 3, 3), wrong):
            decide("kl", p, class_dim=wrong)


def test_a_batch_of_one_that_lost_its_dimension_is_refused() -> None:
    for asked in ("auto", "kl", "mse"):
        with refused("output", (12,), 1, "squeeze(-1)"):
            decide(asked, predicted(12), torch.zeros(1, dtype=torch.long))
    with refused("output", (12,), 4):
        decide("auto", predicted(12), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize(
    ("asked", "loss", "wanted"),
    [
        ("kl", lambda p: F.mse_loss(p, torch.zeros(BATCH, 3)), "mse"),
        ("mse_probs", lambda p: F.l1_loss(p, torch.zeros(BATCH, 3)), "mse"),
        ("kl", lambda p: F.binary_cross_entropy_with_logits(p, torch.zeros(BATCH, 3)), "bernoulli_kl"),
        ("bernoulli_kl", lambda p: F.cross_entropy(p, LABELS), "kl"),
        ("ce", lambda p: F.mse_loss(p, torch.zeros(BATCH, 3)), "mse"),
    ],
)
def test_a_named_divergence_that_the_loss_contradicts_is_kept_with_a_warning(
    asked: Any, loss: Callable[[Tensor], Any], wanted: str
) -> None:
    with pytest.warns(UserWarning, match=names(f"divergence={asked!r}", (BATCH, 3), f"divergence={wanted!r}")):
        found = seen(predicted(BATCH, 3), loss, asked)
    assert found.divergence == asked


def test_named_divergences_that_the_loss_goes_with_do_not_warn() -> None:
    labels = torch.zeros(BATCH, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several = seen(predicted(BATCH, 3), lambda p: F.binary_cross_entropy_with_logits(p, labels), "ce")
        assert (several.divergence, several.kind) == ("bernoulli_ce", "labels")
        squares = seen(predicted(BATCH, 3), lambda p: F.binary_cross_entropy_with_logits(p, labels), "mse_probs")
        assert (squares.divergence, squares.kind) == ("mse_probs", "labels")
        one = seen(predicted(BATCH), lambda p: F.binary_cross_entropy_with_logits(p, ones), "kl")
        assert one.divergence == "kl"
        assert seen(predicted(BATCH, 3), lambda p: F.cross_entropy(p, LABELS), "mse_logits").divergence == "mse_logits"


class Forecaster(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(2, 8, batch_first=True), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.gru(x)[0][:, -1])
        return found


def test_a_direct_call_goes_by_the_target() -> None:
    model, x = Forecaster(12), torch.randn(BATCH, 7, 2)
    generator = torch.Generator()
    values = [
        AdversarialDropout(rate=0.3, divergence=name, search="top")(
            lambda: model(x), model, target=torch.randn(BATCH, 12), generator=generator.manual_seed(0)
        )[1]
        for name in ("auto", "mse", "kl")
    ]
    assert values[0] == values[1] != values[2]
    with refused("divergence='auto'", (BATCH, 12), "target", "'mse'"):
        AdversarialDropout(rate=0.3)(lambda: model(x), model)


def test_methods_with_a_loss_of_their_own_take_that_of_numbers() -> None:
    model = Forecaster(12).double()
    x, y = (torch.randn(*shape, dtype=torch.float64) for shape in ((BATCH, 7, 2), (BATCH, 12)))
    passes = RDrop(rate=0.0).first_pass(lambda: model(x), model, target=y)
    supervised = RDrop(rate=0.0).evaluate(passes).supervised
    torch.testing.assert_close(supervised, mse(model(x), y))
    method = AdversarialTraining(epsilon=1e-9)
    found = method.evaluate(method.first_pass(lambda: model(x), model, "input", target=y)).value
    torch.testing.assert_close(found, mse(model(x), y), rtol=1e-7, atol=1e-7)
    with refused("loss='auto'", "class probabilities", "'ce'", "'bernoulli_ce'"):
        soft = y.softmax(-1)
        method.evaluate(method.first_pass(lambda: model(x), model, "input", target=soft))
    named = AdversarialTraining(epsilon=1e-9, loss="ce")
    found = named.evaluate(named.first_pass(lambda: model(x), model, "input", target=soft)).value
    torch.testing.assert_close(found, F.cross_entropy(model(x), soft), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", [(BATCH, 1, 4, 16), (BATCH, 1, 16, 4)])
def test_the_divergence_of_maps_does_not_depend_on_their_width(shape: tuple[int, ...]) -> None:
    p, q = predicted(*shape), predicted(*shape).flip(0)
    found = seen(p, lambda each: F.binary_cross_entropy_with_logits(each, torch.zeros(shape))).distance(
        p, q, "base_adv"
    )
    torch.testing.assert_close(found, bernoulli_kl(p.reshape(-1, 1), q.reshape(-1, 1)))
