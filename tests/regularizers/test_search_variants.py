"""Ways to start and to search: what they count, what they cost, and the Fisher information's estimate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop import functional
from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.regularizers import AdversarialDropout, Passes, Regularizer, fisher_flips, fisher_scores
from tests.helpers import recording
from tests.helpers.messages import each_names, refused
from tests.helpers.models_recurrent import Tagger
from tests.helpers.reference_family import FEATURES, UNITS, Network, Problem
from tests.helpers.reference_masks import all_masks, within_budget
from tests.helpers.reference_search import fisher_information

BATCH, STEPS, COPIES = 5, 6, 3000
GRADIENT: dict[str, Any] = {"search": "gradient", "share_masks": False}
SAMPLED = GRADIENT | {"start": "sampled"}


class Counting(Network):
    """Counts its forward passes, in the class: what a pass changes in the object is undone."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.calls += 1
        return super().forward(x)


def batch(network: type[Network] = Network, **arguments: Any) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    return network(**arguments), torch.randn(BATCH, STEPS, FEATURES, dtype=torch.float64)


def passes_of(regularizer: Regularizer, model: Network, x: Tensor, kind: str = "recurrent", **more: Any) -> Passes:
    return recording.passes_of(regularizer, model, x, kind, target=torch.arange(BATCH) % 3, **more)


def found_masks(regularizer: AdversarialDropout, *arguments: Any, **more: Any) -> list[Tensor]:
    return list(regularizer.penalty(passes_of(regularizer, *arguments, **more)).masks.values())


@pytest.mark.parametrize("kind", ["recurrent", "weight", "input", "output"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_flips_are_counted_from_the_sampled_mask(kind: str, steps: int) -> None:
    regularizer = AdversarialDropout(rate=0.5, start_rate=0.5, steps=steps, **SAMPLED)
    (mask,) = found_masks(regularizer, *batch(), kind)
    budget = int(0.5 * mask.shape[-1])
    sampled = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(5)) >= 0.5).double()
    flips = (mask != sampled).sum(-1)
    assert flips.max() == budget
    if kind != "output":
        assert ((mask == 0).sum(-1) > budget).any()  # which would be too many, counted from ones


@pytest.mark.parametrize("more", [{}, GRADIENT, SAMPLED, {"search": "fisher"}], ids=str)
def test_masks_of_each_step_have_a_budget_each(more: dict[str, Any]) -> None:
    (mask,) = found_masks(AdversarialDropout(rate=0.5, per_step=True, start_rate=0.0, **more), *batch(dropout=0.3))
    assert mask.shape == (STEPS, BATCH, UNITS)
    assert (mask == 0).sum(-1).max() <= UNITS // 2
    assert (mask[1:] != mask[:-1]).any()


def test_a_mask_of_each_step_is_no_option_at_other_sites() -> None:
    for kind, shape in {
        "weight": (4 * UNITS, UNITS),
        "output": (BATCH, 1, UNITS),
        "input": (BATCH, 1, FEATURES),
    }.items():
        (mask,) = found_masks(AdversarialDropout(rate=0.5, per_step=True), *batch(), kind)
        assert mask.shape == shape


FISHER = {"start": "ones", "search": "fisher"}
SHARED_CE: dict[str, Any] = {"search": "gradient", "start": "ones", "divergence": "ce", "share_masks": True}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 2),
        ({"steps": 3}, 6),
        (GRADIENT, 3),
        (GRADIENT | {"steps": 3}, 5),
        (SAMPLED, 3),
        (FISHER, 2),
        (FISHER | {"draws": 5}, 2),
        (FISHER | {"divergence": "mse_logits", "share_masks": True}, 2),
        (SHARED_CE, 2),
        (SHARED_CE | {"steps": 3}, 4),
        (SHARED_CE | {"share_masks": False}, 3),
    ],
    ids=str,
)
def test_the_number_of_forward_passes(arguments: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = batch(network=Counting)
    regularizer = AdversarialDropout(rate=0.5, **arguments)
    monkeypatch.setattr(Counting, "calls", 0)
    regularizer.penalty(passes_of(regularizer, model, x))
    assert Counting.calls == count


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["recurrent", "weight", "input"])
def test_the_base_pass_finds_what_a_probe_finds(kind: str, steps: int) -> None:
    regularizer = AdversarialDropout(rate=0.5, steps=steps, **SHARED_CE)
    model, x = batch(dropout=0.3)
    torch.manual_seed(3)
    with_base = passes_of(regularizer, model, x, kind)
    masks = list(regularizer.penalty(with_base).masks.values())
    torch.manual_seed(3)
    recorded = RecordedForward(model, find_sites(model, kind), share_noise=True)
    with recorded.first_run():
        base = model(x)
    explicit = regularizer.penalty(Passes(recorded, lambda: model(x), base, with_base.target))
    for mask, probed in zip(masks, explicit.masks.values(), strict=True):
        assert torch.equal(mask, probed)
        assert (mask == 0).any()


def test_the_fisher_search_asks_for_the_recorded_masks() -> None:
    model, x = batch()
    recorded = RecordedForward(model, find_sites(model), share_noise=False)
    with recorded.first_run():
        base = model(x)
    with refused("recorded", "rnn.l0:recurrent"):
        AdversarialDropout(start="ones", search="fisher", divergence="kl").penalty(
            Passes(recorded, lambda: model(x), base)
        )


def estimate(model: Network, x: Tensor, divergence: Any, weight: Tensor | None = None) -> Tensor:
    """The mean outer product of scores at the mask of ones, ``(B, H, H)``, over many copies of each example."""
    x = x.repeat_interleave(COPIES, 0)
    weight = weight if weight is None else weight.repeat_interleave(COPIES, 0)
    passes = passes_of(AdversarialDropout(start="ones", search="fisher"), model, x, sample_weight=weight)
    ones = {site: seen.ones() for site, seen in passes.observed.items()}
    (scores,) = fisher_scores(passes, ones, divergence, draws=1).values()
    copies = scores[0].view(-1, COPIES, UNITS)
    return torch.einsum("bni,bnj->bij", copies, copies) / COPIES


def expected_curvature(
    passes: Passes, measure: Callable[[Tensor, Tensor], Tensor], model: Network, x: Tensor
) -> Tensor:
    """The second derivative of a divergence along each unit of the mask of one example, by finite differences."""
    (site,), step = passes.observed, 1e-3
    seen, second = passes.observed[site], []
    for unit in range(seen.site.units):
        values = []
        for change in (-step, 0.0, step):
            mask = seen.ones()
            mask.view(-1, seen.site.units)[:, unit] += change
            values.append(measure(passes.base, passes.run({site: seen.site.rescale(mask)})))
        second.append((values[0] - 2 * values[1] + values[2]) / step**2)
    return torch.stack(second).detach()


def test_the_mean_over_draws_is_the_sum_over_classes() -> None:
    model, x = batch()
    problem = Problem(model, x, {"divergence": "kl"}, torch.zeros(BATCH, dtype=torch.long))
    exact = fisher_information(problem, torch.ones(BATCH, UNITS, dtype=torch.float64))
    found = estimate(model, x, "kl")
    torch.testing.assert_close(
        found.diagonal(dim1=1, dim2=2).sum(-1), exact.diagonal(dim1=1, dim2=2).sum(-1), rtol=0.1, atol=1e-6
    )
    torch.testing.assert_close(found, exact, rtol=0.2, atol=float(exact.max()) / 50)


@pytest.mark.parametrize(("divergence", "classes"), [("kl", 3), ("kl", 1), ("mse_logits", 3), ("bernoulli_kl", 3)])
@pytest.mark.parametrize("sequence", [False, True], ids=["last", "steps"])
def test_the_diagonal_is_the_curvature_of_the_divergence(divergence: Any, classes: int, sequence: bool) -> None:
    """Of one example, up to a factor that is the same for all units, also with weights that are no whole numbers."""
    model, x = batch(classes=classes, sequence=sequence)
    weight = torch.tensor([[0.2, 1.0, 0.0, 0.5, 1.0, 0.1]]) if sequence else torch.tensor([0.3])
    regularizer = AdversarialDropout(start="ones", search="fisher")
    passes = passes_of(regularizer, model, x[:1], sample_weight=weight)
    curvature = expected_curvature(
        passes, lambda p, q: functional.divergence(divergence, "base_adv", p, q, sample_weight=weight), model, x[:1]
    )
    found = estimate(model, x[:1], divergence, weight)[0].diagonal()
    torch.testing.assert_close(found / found.sum(), curvature / curvature.sum(), rtol=0.15, atol=0.01)


def test_padding_of_a_regression_without_a_last_dimension_is_left_out() -> None:
    class Regression(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze(-1)

    model, x = batch(network=Regression, classes=1, sequence=True)
    weight = (torch.arange(STEPS) < 3).expand(BATCH, STEPS).double()
    found = estimate(model, x, "mse", weight)
    ends = estimate(model, x[:, :3], "mse")
    torch.testing.assert_close(found, ends, rtol=0.25, atol=float(ends.max()) / 30)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_sampled_start_that_changes_nothing_warns(rate: float) -> None:
    regularizer = AdversarialDropout(rate=0.3, start_rate=rate, **(SAMPLED | {"share_masks": True}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found_masks(regularizer, *batch())
    messages = [str(warning.message) for warning in caught]
    assert each_names(messages, [("start='sampled'", "start='one_drop'")] * (rate == 0))


def test_at_dropout_the_networks_own_mask_is_the_reference_of_each_search() -> None:
    torch.manual_seed(0)
    model, x = Tagger(dropout=0.4), torch.randn(BATCH, STEPS, 4)
    for more in ({}, GRADIENT, SAMPLED, {"start": "ones", "search": "fisher"}):
        regularizer = AdversarialDropout(0.3, divergence="kl", **more)
        penalty = regularizer.penalty(recording.passes_of(regularizer, model, x, "dropout"))
        assert penalty.value > 0
        assert 0 < penalty.metrics["flip_rate"] <= 0.3


@pytest.mark.parametrize("flips", ["both", "drop"])
@pytest.mark.parametrize("budget", [0, 1, 2, 4, 6])
def test_one_score_leads_to_the_best_of_all_masks(budget: int, flips: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(20, UNITS, generator=generator, dtype=torch.float64) > 0.3).double()
    score = torch.randn(1, 20, UNITS, generator=generator, dtype=torch.float64)
    found = fisher_flips(mask, score, budget, flips)
    for row, best in enumerate(found):
        candidates = all_masks(UNITS)
        candidates = candidates[within_budget(candidates, mask[row], budget, flips)]
        worth = ((candidates - mask[row]) @ score[0, row]).square()
        torch.testing.assert_close(((best - mask[row]) @ score[0, row]).square(), worth.max())
        assert (best != mask[row]).sum() <= budget


def test_several_scores_lead_to_a_proposal_that_all_agree_on() -> None:
    """The first score's own proposal is worth less to the other two than theirs."""
    scores = torch.tensor([[[3.0, 0.0, 0.0]], [[0.0, 2.5, 0.0]], [[0.0, 2.5, 0.0]]])
    assert fisher_flips(torch.ones(1, 3), scores, budget=1).tolist() == [[1, 0, 1]]


def test_of_equals_the_one_that_lowers_the_labels_probability_is_taken() -> None:
    """Dropping a half of the units and dropping the other are the same in first order, since masks are rescaled."""
    score = torch.tensor([[[1.0, -1.0, 2.0, -2.0]], [[-1.0, 1.0, -2.0, 2.0]]])
    for number, expected in enumerate([[0, 1, 0, 1], [1, 0, 1, 0]]):
        assert fisher_flips(torch.ones(1, 4), score[number : number + 1], budget=2).tolist() == [expected]
