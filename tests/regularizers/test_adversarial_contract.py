"""What the regularizer leaves alone, refuses and warns about."""

import random
import warnings
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.nn import layer
from lightning_advdrop.regularizers import AdversarialDropout, Passes
from tests.helpers.messages import names, refused
from tests.helpers.models_recurrent import Tagger

BATCH = 4
#: For passes that were recorded without a mask, as `passes_of` does; the other searches need one in the base pass.
GRADIENT: dict[str, Any] = {"search": "gradient", "share_masks": False}


def passes_of(model: nn.Module, *, share_noise: bool = False, seed: int = 0, **arguments: Any) -> Passes:
    x = torch.randn(BATCH, 7, 4, generator=torch.Generator().manual_seed(1))
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        base = model(x)
    recorded.draw_noise(3)
    generator = torch.Generator().manual_seed(seed)
    return Passes(recorded, lambda: model(x), base, generator=generator, **arguments)


def global_states() -> list[Any]:
    kind, keys, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), kind, np.asarray(keys).tolist(), rest, random.getstate()]


@pytest.mark.parametrize("share_noise", [True, False])
def test_gradients_and_random_states_are_left_alone(share_noise: bool) -> None:
    model = Tagger(dropout=0.3, layers=2)
    passes, before = passes_of(model, share_noise=share_noise), global_states()
    regularizer = AdversarialDropout(rate=0.3, steps=2, search="gradient", share_masks=share_noise, divergence="kl")
    value = regularizer.penalty(passes).value
    assert global_states() == before
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.autograd.backward(value + passes.base.sum())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradients_that_are_there_stay_as_they_are() -> None:
    model = Tagger()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    AdversarialDropout(rate=0.3, divergence="kl", **GRADIENT).penalty(passes_of(model))
    assert all(parameter.grad is not None and (parameter.grad == 3).all() for parameter in model.parameters())


@pytest.mark.parametrize("arguments", [GRADIENT | {"steps": 3}, {"steps": 3}, {"search": "fisher"}], ids=str)
def test_a_search_computes_no_gradient_of_a_parameter(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, regularizer = Tagger(), AdversarialDropout(rate=0.5, divergence="kl", **arguments)
    x, generator = torch.randn(BATCH, 7, 4), torch.Generator()
    passes = regularizer.first_pass(lambda: model(x), model, generator=generator)
    passes.recorded.draw_noise(1)
    computed = Mock(side_effect=layer._plus)
    monkeypatch.setattr(layer, "_plus", computed)
    penalty = regularizer.penalty(passes)
    computed.assert_not_called()
    torch.autograd.backward(penalty.value)
    computed.assert_called()


@pytest.mark.parametrize("start", ["one_drop", "ones"])
def test_the_generator_alone_decides(start: Any) -> None:
    model, results = Tagger(units=20, dropout=0.3), []
    for seed, jitter in ((1, 0), (1, 9), (2, 0)):
        torch.manual_seed(8)
        passes = passes_of(model, seed=seed)
        torch.rand(jitter)
        results.append(AdversarialDropout(rate=0.1, start=start, divergence="kl", **GRADIENT).penalty(passes).value)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (start == "ones")


def test_inactive_with_a_rate_of_zero() -> None:
    lstm = nn.LSTM(2, 3)
    sites = find_sites(lstm)
    assert not AdversarialDropout(rate=0.0).active(sites)
    assert AdversarialDropout(rate=0.001).active(sites)
    assert not AdversarialDropout(rate=0.5).active(find_sites(lstm, {"recurrent": 0.0}))
    assert AdversarialDropout(rate=0.0).active(find_sites(lstm, {"recurrent": 0.0, "weight": 0.5}))


def test_only_cross_entropy_needs_labels() -> None:
    needing = {
        name for name in ("kl", "mse_logits", "mse_probs", "ce") if AdversarialDropout(divergence=name).needs_target
    }
    assert needing == {"ce"}


def test_a_degenerate_start_warns_once() -> None:
    regularizer = AdversarialDropout(rate=0.3, start="ones", steps=2, divergence="kl", **GRADIENT)
    model = Tagger()
    with pytest.warns(UserWarning, match=names("start='ones'", "start='one_drop'")) as caught:
        regularizer.penalty(passes_of(model))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regularizer.penalty(passes_of(model))


def test_other_noise_or_labels_are_no_degenerate_start() -> None:
    AdversarialDropout(rate=0.3, start="ones", divergence="kl", **GRADIENT).penalty(passes_of(Tagger(dropout=0.3)))
    target = torch.zeros(BATCH, dtype=torch.long)
    for share in (True, False):
        settings = GRADIENT | {"start": "ones", "divergence": "ce", "share_masks": share}
        regularizer = AdversarialDropout(rate=0.3, **settings)
        regularizer.penalty(passes_of(Tagger(), share_noise=share, target=target))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"search": "top", "start": "sampled"}, ("start='sampled'", "search='top'", "reference_in_base=True", False)),
        ({"start": "sampled"}, ("start='sampled'", "search='label'", "reference_in_base=True", "search='gradient'")),
        (GRADIENT | {"start": "ones", "keep_start": True}, ("keep_start=True", "start='one_drop'", "'ones'")),
        ({"keep_start": True}, ("keep_start=True", "search='gradient'", "'label'")),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        AdversarialDropout(**arguments)


def test_two_equal_predictions_are_refused() -> None:
    regularizer = AdversarialDropout(start="ones", search="gradient", share_masks=True, divergence="mse_probs")
    with refused("start='ones'", "share_masks=True", "divergence='mse_probs'", "divergence='ce'"):
        regularizer.penalty(passes_of(Tagger(), share_noise=True))


def test_cross_entropy_without_labels_is_refused() -> None:
    model, x = Tagger(), torch.randn(BATCH, 7, 4)
    for regularizer in (AdversarialDropout(divergence="ce"), AdversarialDropout(divergence="ce", **GRADIENT)):
        with refused("target", "'ce'", None):
            regularizer(lambda: model(x), model)


def test_a_forward_that_meets_no_site_is_refused() -> None:
    class Unused(Tagger):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.before(x)[:, -1]
            return logits

    with refused("sites", "lstm.l0:recurrent", "lstm.l1:recurrent"):
        AdversarialDropout(divergence="kl", **GRADIENT).penalty(passes_of(Unused(layers=2)))


@pytest.mark.parametrize("parameter", ["out.bias", "lstm.weight_hh_l0"])
def test_predictions_that_are_not_finite_are_refused(parameter: str) -> None:
    model = Tagger()
    with torch.no_grad():
        model.get_parameter(parameter).fill_(float("nan"))
    with refused("grad", "NaN", "infinity"):
        AdversarialDropout(divergence="kl", **GRADIENT).penalty(passes_of(model))


def test_a_site_without_influence_on_the_prediction_is_not_flipped() -> None:
    """A second head, say, that the compared prediction does not come from."""

    class TwoHeads(Tagger):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            self.side(x)
            return super().forward(x)

    passes = passes_of(TwoHeads())
    found = AdversarialDropout(rate=0.3, divergence="kl", **GRADIENT).find_masks(
        passes, {site: site.ones(BATCH) for site in passes.recorded.sites}
    )
    flips = {site.name: int((mask == 0).sum()) for site, mask in found.items()}
    assert flips["side.l0:recurrent"] == 0
    assert flips["lstm.l0:recurrent"] > 0
