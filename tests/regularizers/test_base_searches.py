"""Searches that take their gradient in the base pass, rounds that refine them, and references that act there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking import apply, find_sites
from lightning_advdrop.nn import AWDLSTM
from lightning_advdrop.regularizers import AdversarialDropout, Passes
from lightning_advdrop.regularizers.flips import Rows, flips_by_scores
from tests.helpers import recording
from tests.helpers.messages import refused
from tests.helpers.reference_family import UNITS
from tests.helpers.reference_masks import all_masks, within_budget
from tests.regularizers.test_search_variants import BATCH, STEPS, batch, passes_of


def each_divergence(passes: Passes, masks: dict[Any, Tensor]) -> Tensor:
    other = passes.run({site: site.rescale(mask) for site, mask in masks.items()})
    base, other = passes.base.detach().log_softmax(-1), other.detach().log_softmax(-1)
    return (base.exp() * (base - other)).sum(-1)


@pytest.mark.parametrize("search", ["top", "label", "fisher"])
@pytest.mark.parametrize("kind", ["recurrent", "input", "weight"])
def test_a_further_round_never_finds_less(search: Any, kind: str) -> None:
    """For any example, or for the batch where it shares the mask."""
    model, x = batch()
    found = []
    for steps in (1, 2, 3):
        regularizer = AdversarialDropout(rate=0.5, search=search, steps=steps)
        passes = passes_of(regularizer, model, x, kind)
        found.append(each_divergence(passes, dict(regularizer.penalty(passes).masks)))
    if kind == "weight":
        found = [value.mean(0, keepdim=True) for value in found]
    assert (found[1] >= found[0] - 1e-12).all()
    assert (found[2] >= found[1] - 1e-12).all()
    assert (found[2] > found[0]).any() or (search, kind) == ("top", "input")


@pytest.mark.parametrize("kind", ["recurrent", "input"])
def test_examples_without_a_label_take_what_their_prediction_leans_on(kind: str) -> None:
    model, x = batch()
    labels = torch.arange(BATCH) % 3
    labels[[1, 3]] = -100
    masks = {}
    for search in ("top", "label"):
        regularizer = AdversarialDropout(rate=0.5, search=search)
        passes = recording.passes_of(regularizer, model, x, kind, target=labels)
        (masks[search],) = regularizer.penalty(passes).masks.values()
    same = (masks["top"] == masks["label"]).flatten(1).all(1)
    assert same[[1, 3]].all()
    assert not same.all()


@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("steps", [1, 2])
def test_without_a_loss_or_labels_the_label_search_is_that_of_the_prediction(divergence: Any, steps: int) -> None:
    model, x = batch()
    found = {}
    for search in ("top", "label"):
        regularizer = AdversarialDropout(rate=0.5, steps=steps, search=search, divergence=divergence)
        (found[search],) = regularizer.penalty(recording.passes_of(regularizer, model, x)).masks.values()
    assert torch.equal(found["top"], found["label"])
    assert (found["label"] == 0).any()


def test_so_it_is_where_the_loss_has_no_graph() -> None:
    """As of a step on a batch without labels, which is trained on the penalty alone."""
    model, x = batch()
    masks = {}
    for search in ("top", "label"):
        regularizer = AdversarialDropout(rate=0.5, search=search, divergence="kl")
        passes = replace(passes_of(regularizer, model, x), loss=torch.zeros(()))
        (masks[search],) = regularizer.evaluate(passes).masks.values()
    assert torch.equal(masks["top"], masks["label"])


def test_the_loss_itself_is_raised_where_it_is_known() -> None:
    model, x = batch()
    regularizer = AdversarialDropout(rate=0.5, search="label", divergence="kl")
    passes = passes_of(regularizer, model, x)
    (by_label,) = regularizer.penalty(passes).masks.values()
    assert passes.target is not None
    loss = 7 * torch.nn.functional.cross_entropy(passes.base, passes.target)
    (by_loss,) = regularizer.penalty(replace(passes, loss=loss, target=None)).masks.values()
    (opposite,) = regularizer.penalty(replace(passes, loss=-loss, target=None)).masks.values()
    assert torch.equal(by_label, by_loss)
    assert not torch.equal(by_label, opposite)


def test_a_regression_moves_the_output_up_or_down_whichever_is_further() -> None:
    """With one score, that is the best of all masks for the output's first-order change."""
    model, x = batch(classes=1)
    regularizer = AdversarialDropout(rate=0.34, search="top", divergence="mse")
    passes = passes_of(regularizer, model, x)
    (mask,) = regularizer.penalty(passes).masks.values()
    leaf = torch.ones(BATCH, UNITS, dtype=torch.float64, requires_grad=True)
    output = model.explicit(x, leaf * UNITS / leaf.sum(-1, keepdim=True))
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    candidates = all_masks(UNITS)
    candidates = candidates[within_budget(candidates, torch.ones(UNITS), 2, "both")]
    for row, slope in zip(mask, gradient, strict=True):
        best = ((candidates - 1) @ slope).abs().max()
        torch.testing.assert_close(((row - 1) @ slope).abs(), best)


def test_rows_and_sites_of_one_example_have_one_sign() -> None:
    """Two rows that each move the same output most in opposite directions would cancel each other."""
    rows = Rows(torch.ones(2, 2), torch.tensor([0, 0]), 1)
    score = torch.tensor([[[3.0, -1.0], [2.0, -2.5]]])  # of its own, the second row would raise
    together = flips_by_scores([rows], [score], "both")[0]
    apart = flips_by_scores([replace(rows, example=torch.tensor([0, 1]))], [score], "both")[0]
    assert together.tolist() == [[0, 1], [0, 1]]
    assert apart.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("search", ["gradient", "top"])
def test_the_reference_acts_in_the_base_pass(search: Any) -> None:
    """A network that drops weights itself keeps all of those at the site, and draws all its other noise as ever."""
    torch.manual_seed(0)
    model = AWDLSTM(11, 4, 6, 2, weight_dropout=0.5, input_dropout=0.4).double()
    x, (site,) = torch.randint(11, (STEPS, BATCH)), find_sites(model, "rnns.1:weight")
    regularizer = AdversarialDropout(0.3, divergence="mse_logits", search=search, reference_in_base=True, start="ones")
    torch.manual_seed(2)
    passes = regularizer.first_pass(
        lambda: model(x), model, [site], output=lambda result: result[0], generator=torch.Generator()
    )
    torch.manual_seed(2)
    with apply(model, {site: site.ones(BATCH)}):
        expected = model(x)[0]
    torch.manual_seed(2)
    plain = model(x)[0]
    torch.testing.assert_close(passes.base, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(passes.base, plain)


def test_a_sampled_reference_acts_in_the_base_pass_and_flips_count_from_it() -> None:
    model, x = batch()
    settings: list[dict[str, Any]] = [{"search": "top"}, {}, {"search": "gradient", "divergence": "ce"}]
    for more in settings:
        regularizer = AdversarialDropout(
            rate=0.34, start="sampled", start_rate=0.5, reference_in_base=True, flips="drop", **more
        )
        passes = passes_of(regularizer, model, x)
        (mask,) = regularizer.penalty(passes).masks.values()
        (seen,) = passes.observed.values()
        assert seen.mask is not None
        torch.testing.assert_close(passes.base, model.explicit(x, seen.site.rescale(seen.mask)))
        assert (mask <= seen.mask).all()
        assert ((mask != seen.mask).sum(-1) <= 2).all()
        assert (mask != seen.mask).any()


@pytest.mark.parametrize("divergence", ["kl", "mse_logits"])
def test_no_labels_are_drawn_from_a_prediction_that_is_nan(divergence: Any) -> None:
    model, x = batch()
    regularizer = AdversarialDropout(rate=0.5, search="fisher", divergence=divergence)
    passes = passes_of(regularizer, model, torch.full_like(x, torch.nan))
    with refused("prediction must be finite", "without any mask", error=FloatingPointError):
        regularizer.evaluate(passes)


def test_what_one_method_has_taken_from_the_graph_is_not_another_ones() -> None:
    model, x = batch()
    few, many = (AdversarialDropout(rate=rate, search="top", divergence="kl") for rate in (0.1, 0.9))
    passes = passes_of(few, model, x)
    fresh = many.evaluate(replace(passes)).metrics["flip_rate"]
    few.prepare(passes)
    assert many.evaluate(passes).metrics["flip_rate"] == fresh
    assert passes.kept == {}
    assert few.evaluate(passes).metrics["flip_rate"] != fresh
