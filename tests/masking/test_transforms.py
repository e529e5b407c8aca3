"""Forwards that call `torch.vmap` and other transforms of functions before the first mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from lightning_advdrop.masking.prefix import Prefix, PrefixReader
from tests.helpers.recording import computed
from tests.helpers.stateful import Net, check_against_twin, inputs, recorded_base

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")  # by which torch differentiates forward
SHARED = pytest.mark.parametrize("share_noise", [True, False])
Change = Callable[[Any, Tensor], Any]


def vmap(net: Any, x: Tensor) -> Any:
    return torch.vmap(lambda v: v - v.mean())(net.lift(x))


def vmap_of_the_input(net: Any, x: Tensor) -> Any:
    return net.lift(torch.vmap(lambda v: v - v.mean())(x))


def vmap_that_writes(net: Any, x: Tensor) -> Any:
    hidden = net.lift(x)
    return torch.vmap(lambda v: v.mul_(2))(hidden) + hidden


def jvp(net: Any, x: Tensor) -> Any:
    hidden = net.lift(x)
    return torch.func.jvp(lambda v: net.lift(v).square(), (hidden,), (hidden,))[1]


def vjp(net: Any, x: Tensor) -> Any:
    function: Any = torch.func.vjp
    output, pull = function(lambda v: net.lift(v).square(), net.lift(x))
    return pull(torch.ones_like(output))[0]


def per_example(net: Any, x: Tensor) -> Any:
    rows: Any = torch.vmap(torch.func.jacrev(lambda v: net.lift(v).square().sum(-1)))(net.lift(x))
    return rows.sum(1)


def dual(net: Any, x: Tensor) -> Any:
    hidden, forward_mode = net.lift(x), cast(Any, forward_ad)
    with forward_mode.dual_level():
        squared = net.lift(forward_mode.make_dual(hidden, hidden)).square()
        return forward_mode.unpack_dual(squared).tangent


def jacobian(net: Any, x: Tensor) -> Any:
    function: Any = torch.autograd.functional.jacobian
    return function(lambda v: net.lift(v).square().sum((0, 1)), x, vectorize=True, strategy="forward-mode")[0]


def data(net: Any, x: Tensor) -> Any:
    hidden = net.lift(x)
    return torch.func.grad(lambda v: (v.data * v).sum())(hidden)


def data_written(net: Any, x: Tensor) -> Any:
    hidden = net.lift(x)

    def doubled(v: Tensor) -> Tensor:
        v.data.mul_(2)
        return v.square()

    return torch.func.jvp(doubled, (hidden,), (hidden.detach(),))[1] + hidden


CHANGES = [vmap, vmap_of_the_input, vmap_that_writes, jvp, vjp, per_example, dual, jacobian, data, data_written]


@SHARED
@pytest.mark.parametrize("change", CHANGES)
def test_before_the_mask(change: Change, share_noise: bool) -> None:
    check_against_twin(lambda: Net(change=change), share_noise=share_noise)


@pytest.mark.parametrize("change", [vmap, jvp, dual])
def test_what_was_computed_before_is_handed_back(change: Change) -> None:
    model, x = Net(change=change), inputs(1)[0]
    recorded, _ = recorded_base(model, lambda: model(x))
    within = change is not vmap  # which calls the layer once more
    assert computed(recorded, lambda: model(x), {}, "linear") == (1 + within,)


def test_noise_drawn_within_is_drawn_again() -> None:
    def change(net: Any, x: Tensor) -> Any:
        hidden = nn.functional.dropout(net.lift(x), 0.5)
        return torch.vmap(lambda v: v + torch.randn(2, 3).sum(0), randomness="different")(hidden)

    model, x = Net(change=change), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x))
    for _ in range(3):
        torch.testing.assert_close(recorded.run(lambda: model(x), {}), base)


def test_memory_that_is_given_away_within_leaves_nothing_to_reuse() -> None:
    prefix, x = Prefix(), torch.rand(2)
    reader = PrefixReader(prefix)
    hidden = reader.call(torch.sin, (x,), {})
    assert prefix.valid
    getter: Any = Tensor.data
    torch.func.jvp(lambda v: reader.call(getter.__get__, (v,), {}), (hidden,), (x,))
    assert not prefix.valid
