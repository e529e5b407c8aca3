"""Layers that compute their weights: parametrizations, hooks, wrappers and functional calls."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from lightning_advdrop.masking import MaskSite, apply, find_sites
from lightning_advdrop.regularizers import AdversarialDropout, VirtualAdversarialTraining
from tests.helpers.messages import refused

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm:FutureWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

STEPS, BATCH, FEATURES, UNITS = 5, 3, 4, 6
PLACES = ("l0", "l0_reverse", "l1", "l1_reverse")


class WeightDrop(nn.Module):
    """Keep raw weights, and set what dropout makes of them in each forward, as published AWD-LSTMs do."""

    def __init__(self, module: nn.Module, p: float = 0.0, *, as_parameters: bool = False) -> None:
        super().__init__()
        self.module, self.p = module, p
        self.names = [f"weight_hh_{place}" for place in PLACES]
        for name in self.names:
            weight: Any = getattr(module, name)
            self.register_parameter(f"{name}_raw", nn.Parameter(weight.data.clone()))
            if not as_parameters:
                del module._parameters[name]
                setattr(module, name, weight.data)

    def forward(self, *args: Any) -> Any:
        for name in self.names:
            weight: Any = F.dropout(getattr(self, f"{name}_raw"), self.p, self.training)
            if name in self.module._parameters:
                self.module._parameters[name] = weight
            else:
                setattr(self.module, name, weight)
        return self.module(*args)


class Functional(nn.Module):
    """Run a layer with weights that are computed from its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        computed = {name: 1.0 * value for name, value in self.module.named_parameters()}
        return torch.func.functional_call(self.module, computed, args)


def each(wrap: Callable[..., nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrapped(layer: nn.Module) -> nn.Module:
        for place in PLACES:
            wrap(layer, f"weight_hh_{place}")
            wrap(layer, f"weight_ih_{place}")
        return layer

    return wrapped


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "hook of weight norm": each(nn.utils.weight_norm),
    "weight norm": each(parametrizations.weight_norm),
    "orthogonal": each(parametrizations.orthogonal),
    "weight drop": WeightDrop,
    "weight drop in the place of parameters": lambda layer: WeightDrop(layer, as_parameters=True),
    "functional call": Functional,
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(FEATURES, UNITS, 2, bidirectional=True),
    "projected": lambda: nn.LSTM(FEATURES, UNITS, 2, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(FEATURES, UNITS, 2, bidirectional=True),
    "rnn": lambda: nn.RNN(FEATURES, UNITS, 2, bidirectional=True),
}


def recurrent_layer(model: nn.Module) -> Any:
    return next(part for part in model.modules() if isinstance(part, nn.RNNBase))


def effective(model: nn.Module, name: str) -> Tensor:
    """The weight that the layer uses, with its graph to the raw parameters."""
    layer = recurrent_layer(model)
    raw = getattr(model, f"{name}_raw", None) if isinstance(model, WeightDrop) else None
    if isinstance(layer._parameters.get(f"{name}_g"), Tensor):  # the hook's
        return torch._weight_norm(getattr(layer, f"{name}_v"), getattr(layer, f"{name}_g"))
    weight: Tensor = getattr(layer, name) if raw is None else raw * 1.0
    return weight


def plain_twin(model: nn.Module, layer: nn.Module) -> nn.Module:
    """A stock layer whose parameters are the wrapped one's weights as computed."""
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(effective(model, name))
    return twin


def drawn(sites: list[MaskSite]) -> dict[MaskSite, Tensor]:
    source = torch.Generator().manual_seed(1)
    return {site: site.rescale(site.sample(BATCH, 0.4, source)) for site in sites}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("kind", ["recurrent", "weight", "input", "hidden", "output"])
def test_as_a_stock_layer_with_the_computed_weights(wrap: str, layer: str, kind: str) -> None:
    """Each layer and direction has its own mask, and gradients reach what the weights are computed from."""
    torch.manual_seed(0)
    stock = LAYERS[layer]()
    x = torch.randn(STEPS, BATCH, FEATURES)
    model = WRAPS[wrap](copy.deepcopy(stock))
    model(x)  # a hook computes the weights first
    twin = plain_twin(model, stock)
    sites, twins = find_sites(model, kind), find_sites(twin, kind)
    assert [site.name.removeprefix("module").lstrip(".") for site in sites] == [site.name.lstrip(".") for site in twins]
    assert [(site.units, site.rows) for site in sites] == [(site.units, site.rows) for site in twins]
    masks = list(drawn(twins).values())
    with apply(model, dict(zip(sites, masks, strict=True))):
        found = model(x)[0]
    with apply(twin, dict(zip(twins, masks, strict=True))):
        expected = twin(x)[0]
    torch.testing.assert_close(found, expected)

    expected.square().sum().backward()
    found.square().sum().backward()
    raw = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    gradients = [parameter.grad for parameter in raw]
    model.zero_grad()
    weights = [(effective(model, name), p.grad) for name, p in twin.named_parameters()]
    chained = torch.autograd.grad(
        [w for w, _ in weights], raw, [g for _, g in weights], allow_unused=True, materialize_grads=True
    )
    for one, other in zip(gradients, chained, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_regularizer_finds_what_it_finds_in_the_stock_layer(wrap: str) -> None:
    torch.manual_seed(0)
    stock = LAYERS["lstm"]()
    x = torch.randn(STEPS, BATCH, FEATURES)
    model = WRAPS[wrap](copy.deepcopy(stock))
    model(x)
    twin = plain_twin(model, stock)
    penalties = []
    for each_model in (model, twin):
        generator = torch.Generator().manual_seed(0)
        forward = functools.partial(lambda network: network(x)[0][-1], each_model)
        penalties.append(AdversarialDropout(rate=0.3, divergence="kl")(forward, each_model, generator=generator)[1])
    assert penalties[0] > 0
    torch.testing.assert_close(penalties[0], penalties[1])


@pytest.mark.parametrize("normalized", [nn.utils.spectral_norm, parametrizations.spectral_norm])
def test_finding_and_a_penalty_leave_no_trace_in_spectral_norm(normalized: Callable[..., nn.Module]) -> None:
    """Reading a normalised weight is a power iteration, which writes to buffers."""
    built = []
    for _ in range(2):  # not by copying one: that is a power iteration, too
        torch.manual_seed(0)
        built.append(normalized(nn.GRU(FEATURES, UNITS), "weight_hh_l0"))
    (plain, model), x = built, torch.randn(STEPS, BATCH, FEATURES)
    expected = plain(x)[0][-1]
    method = AdversarialDropout(
        rate=0.3, divergence="kl", search="gradient"
    )  # whose base pass is the plain one, unmasked
    found, penalty = method(lambda: model(x)[0][-1], model)
    assert penalty > 0
    assert torch.equal(found, expected)
    for one, other in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("kind", ["recurrent", "weight"])
def test_cells(cell: type[Any], kind: str) -> None:
    torch.manual_seed(0)
    stock = cell(FEATURES, UNITS)
    model = parametrizations.weight_norm(copy.deepcopy(stock), "weight_hh")
    x, state = torch.randn(BATCH, FEATURES), torch.randn(BATCH, UNITS)
    given = (state, state) if cell is nn.LSTMCell else state
    (site,), (twin,) = find_sites(model, kind), find_sites(stock, kind)
    assert (site.name, site.units, site.rows) == (twin.name, twin.units, twin.rows)
    ((_, mask),) = drawn([twin]).items()
    with apply(model, {site: mask}):
        found = model(x, given)
    with apply(stock, {twin: mask}):
        expected = stock(x, given)
    torch.testing.assert_close(found, expected)


def test_a_normalised_table_has_perturbations_and_masks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Embedding(9, 4)), nn.Flatten(1), nn.Linear(12, 3))
    words = torch.randint(9, (BATCH, 3))
    for regularizer in (VirtualAdversarialTraining(1.0, divergence="kl"), AdversarialDropout(0.3, divergence="kl")):
        _, penalty = regularizer(lambda: model(words), model, sites="embedding")
        assert penalty > 0


def test_the_weights_of_a_forward_that_is_called_directly_can_not_be_recognised() -> None:
    class Direct(Functional):
        def forward(self, x: Tensor) -> Any:
            with torch.nn.utils.stateless._reparametrize_module(
                self.module, {name: 1.0 * value for name, value in self.module.named_parameters()}
            ):
                return self.module.forward(x)

    model, x = Direct(nn.GRU(FEATURES, UNITS)), torch.randn(STEPS, BATCH, FEATURES)
    with refused("sites", "module.l0:recurrent", "gru", "no parameters", "call the layer", "as a module"):
        AdversarialDropout()(lambda: model(x)[0][-1], model)


def test_a_parametrized_weight_is_a_site_after_its_parametrization_is_gone() -> None:
    model = nn.GRU(FEATURES, UNITS)
    parametrizations.weight_norm(model, "weight_hh_l0")
    (before,) = find_sites(model)
    assert before == find_sites(model)[0]
    parametrize.remove_parametrizations(model, "weight_hh_l0")
    (after,) = find_sites(model)
    assert (after.name, after.anchor) == (before.name, model.weight_hh_l0)
