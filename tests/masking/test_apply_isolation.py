"""What a forward under masks leaves behind: nothing."""

import copy
import pickle
import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import MaskSite, find_sites
from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.nn import MaskedLSTM
from tests.helpers.messages import refused
from tests.helpers.models_recurrent import Carrying, Tagger

BATCH = 4


def half_masks(module: nn.Module, kinds: str | list[str] = "recurrent") -> dict[MaskSite, Tensor]:
    return {site: site.sample(BATCH, 0.5) for site in find_sites(module, kinds)}


def hooks(module: nn.Module) -> list[int]:
    return [len(v) for part in module.modules() for k, v in sorted(vars(part).items()) if "hooks" in k]


def test_the_module_is_as_before() -> None:
    model, x = Tagger(), torch.randn(BATCH, 7, 4)
    output, state, pickled = model(x), copy.deepcopy(model.state_dict()), pickle.dumps(model)
    attributes = [dict(vars(part)) for part in model.modules()]
    with apply_masks(model, half_masks(model, ["recurrent", "weight"])):
        assert not torch.equal(model(x), output)
        assert list(model.state_dict()) == list(state)
    assert pickle.dumps(model) == pickled
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for before, part in zip(attributes, model.modules(), strict=True):
        assert list(vars(part)) == list(before)
        assert all(vars(part)[name] is value for name, value in before.items())
    assert sum(hooks(model)) == 0
    assert torch.equal(model(x), output)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_buffers_and_carried_state_are_as_before() -> None:
    model, x = Carrying(), torch.randn(5, BATCH, 3)
    model(x)
    hidden, calls, state = model.hidden, model.calls, copy.deepcopy(model.state_dict())
    buffers = dict(model.named_buffers())
    with apply_masks(model, half_masks(model)):
        model(x)
        assert model.calls == calls + 1
        assert model.hidden is not hidden
    assert model.hidden is hidden
    assert model.calls == calls
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class InPlace(nn.Module):
    """Writes to a tensor that is neither a parameter nor a buffer, and to containers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5)
        self.total = torch.zeros(())
        self.outputs: list[Tensor] = []
        self.by_name = {"last": torch.zeros(BATCH, 5)}

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.lstm(x)[0]
        self.total += 1
        self.outputs.append(output.detach())
        self.by_name["last"] = output[-1].detach()
        return output


def test_tensors_lists_and_dicts_of_the_module_are_as_before() -> None:
    model = InPlace()
    last = model.by_name["last"]
    with apply_masks(model, half_masks(model)):
        model(torch.randn(5, BATCH, 3))
    assert model.total.item() == 0
    assert model.outputs == []
    assert model.by_name["last"] is last


def random_states() -> list[Any]:
    name, keys, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), rest, random.getstate()]


def test_global_random_states_are_as_before() -> None:
    model, x = Tagger(dropout=0.5), torch.randn(BATCH, 7, 4)
    masks = half_masks(model)
    before = random_states()
    with apply_masks(model, masks):
        model(x)
        torch.rand(3)
        np.random.rand(3)
        random.random()
        assert random_states() != before
    assert random_states() == before


@pytest.mark.parametrize("kinds", ["recurrent", "weight"])
@pytest.mark.parametrize("layers", [1, 3])
def test_other_noise_is_replayed(kinds: str, layers: int) -> None:
    model, x = Tagger(dropout=0.5, layers=layers), torch.randn(BATCH, 7, 4)
    masks = half_masks(model, kinds)
    outputs = []
    for _ in range(2):
        with apply_masks(model, masks):
            outputs.append(model(x))
    assert torch.equal(*outputs)
    torch.rand(1)
    with apply_masks(model, masks):
        assert not torch.equal(model(x), outputs[0])


@pytest.mark.parametrize("layers", [1, 2])
def test_noise_is_the_plain_forwards_with_masks_of_ones(layers: int) -> None:
    model, x = Tagger(dropout=0.5, layers=layers), torch.randn(BATCH, 7, 4)
    masks = {site: site.ones(BATCH) for site in find_sites(model, ["recurrent", "weight"])}
    with apply_masks(model, masks):
        masked = model(x)
    if layers == 1:  # between layers, the stock kernel draws the same noise only from the same place
        torch.testing.assert_close(masked, model(x), rtol=1e-5, atol=1e-6)
    assert masked.isfinite().all()


def test_an_exception_restores_everything() -> None:
    model, x = Carrying(), torch.randn(5, BATCH, 3)
    state, before = copy.deepcopy(model.state_dict()), random_states()
    with (
        suppress(KeyError),
        apply_masks(model, {site: site.ones(BATCH) for site in find_sites(model)}),
    ):
        model(x)
        torch.rand(1)
        raise KeyError("stop")
    assert random_states() == before
    assert model.hidden is None
    assert model.calls == 0
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    plain = copy.deepcopy(model)
    assert torch.equal(model(x), plain(x))


def test_a_foreign_site_is_refused() -> None:
    model, other = Tagger(), Tagger()
    before = random_states()
    with (
        refused("masks", "lstm.l0:recurrent", "Tagger"),
        apply_masks(model, {site: site.ones(BATCH) for site in find_sites(other)}),
    ):
        pytest.fail("the context must not begin")
    assert random_states() == before


@pytest.mark.parametrize(
    ("kind", "wrong", "allowed"),
    [
        ("recurrent", [(3, 6), (4, 5), (6,), (7, 3, 6), (6, 4, 6), (8, 4, 6)], [(4, 6), (7, 4, 6)]),
        ("weight", [(6, 6), (7, 24, 6)], [(24, 6)]),
    ],
)
def test_a_mask_of_the_wrong_shape_is_refused(kind: str, wrong: list[Any], allowed: list[Any]) -> None:
    model, x = Tagger(), torch.randn(BATCH, 7, 4)
    (site,) = find_sites(model, kind)
    for shape in wrong:
        with refused("masks", f"lstm.l0:{kind}", *allowed, shape), apply_masks(model, {site: torch.ones(shape)}):
            model(x)


def test_a_masked_lstm_without_a_mask_is_left_alone() -> None:
    model, x = MaskedLSTM(3, 5), torch.randn(6, BATCH, 3)
    expected = model(x)[0]
    with apply_masks(model, half_masks(model)):
        assert not torch.equal(model(x)[0], expected)
    assert torch.equal(model(x)[0], expected)


def test_contexts_nest() -> None:
    """An inner context for another module of the same forward acts besides the outer one."""
    first, second, x = nn.LSTM(3, 5), nn.LSTM(5, 5), torch.randn(6, BATCH, 3)
    outer, inner = half_masks(nn.ModuleDict({"first": first})), half_masks(nn.ModuleDict({"second": second}))
    with apply_masks(first, outer), apply_masks(second, inner):
        nested = second(first(x)[0])[0]
    with apply_masks(nn.ModuleList([first, second]), {**outer, **inner}):
        together = second(first(x)[0])[0]
    torch.testing.assert_close(nested, together)
