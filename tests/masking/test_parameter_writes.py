"""Parameters that forward writes to: a momentum encoder, a centre, a weight that is normalised."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import apply, find_sites
from lightning_advdrop.masking.module_state import ModuleState
from tests.helpers.messages import refused
from tests.helpers.stateful import FEATURES, Net, check_against_twin, inputs, recorded_base, twins

SHARED = pytest.mark.parametrize("share_noise", [True, False])


def momentum(net: Any) -> None:
    net.teacher = nn.Linear(FEATURES, FEATURES).requires_grad_(False)


def update(net: Any) -> None:
    with torch.no_grad():
        for slow, fast in zip(net.teacher.parameters(), net.lift.parameters(), strict=True):
            slow.mul_(0.5).add_(fast, alpha=0.5)


def update_data(net: Any) -> None:
    for slow, fast in zip(net.teacher.parameters(), net.lift.parameters(), strict=True):
        slow.data.mul_(0.5).add_(fast.data, alpha=0.5)


def assign_data(net: Any) -> None:
    for slow, fast in zip(net.teacher.parameters(), net.lift.parameters(), strict=True):
        slow.data = 0.5 * (slow.data + fast.data)


def before_the_mask(write: Callable[[Any], None]) -> Net:
    def change(net: Any, x: Tensor) -> Any:
        write(net)
        moved: Tensor = net.lift(x) + net.teacher(x)
        return moved

    return Net(momentum, change)


def behind_the_mask(write: Callable[[Any], None]) -> Net:
    def after(net: Any, x: Tensor, logits: Tensor) -> Any:
        write(net)
        return logits + net.teacher(x).mean()

    return Net(momentum, lambda net, x: net.lift(x), after)


@SHARED
@pytest.mark.parametrize("place", [before_the_mask, behind_the_mask])
@pytest.mark.parametrize("write", [update, update_data, assign_data])
def test_a_momentum_encoder(write: Callable[[Any], None], place: Callable[[Any], Net], share_noise: bool) -> None:
    check_against_twin(lambda: place(write), share_noise=share_noise)


def normalised(net: Any, x: Tensor) -> Any:
    with torch.no_grad():
        net.lift.weight.copy_(net.lift.weight / net.lift.weight.norm())
    lifted: Tensor = net.lift(x)
    return lifted


def halved_in_the_masked_layer(net: Any, x: Tensor) -> Any:
    net.lstm.weight_hh_l0.data.mul_(0.5)
    return x


@SHARED
@pytest.mark.parametrize("change", [normalised, halved_in_the_masked_layer])
def test_weights_that_are_trained(change: Any, share_noise: bool) -> None:
    check_against_twin(lambda: Net(change=change), share_noise=share_noise)


def test_their_gradients_are_those_of_the_passes_weights() -> None:
    model, x = Net(change=normalised), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x))
    again = recorded.run(lambda: model(x), {})
    weights = [model.lift.weight, *model.lstm.parameters()]
    gradients = [torch.autograd.grad(output.sum(), weights) for output in (base, again)]
    torch.testing.assert_close(*gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[1])


def clipped(net: Any) -> None:
    with torch.no_grad():
        net.lift.weight.clamp_(-100, 100)


def renormed(net: Any) -> None:
    net.lift.weight.data = torch.renorm(net.lift.weight.data, p=2, dim=0, maxnorm=100.0)


def in_other_memory(net: Any) -> None:
    with torch.no_grad():
        for weight in net.lstm.parameters():
            weight.set_(weight.detach().clone().untyped_storage(), 0, weight.shape, weight.stride())


def looked_up(net: Any) -> None:
    net.table(torch.arange(2))


UNCHANGED = [clipped, renormed, in_other_memory, looked_up]


def unchanged(write: Callable[[Any], None], first: int = 1, behind: bool = False) -> Net:
    """Writes from one pass on what the parameters hold already."""

    def init(net: Any) -> None:
        net.calls, net.table = 0, nn.Embedding(4, 2, max_norm=100.0)

    def change(net: Any, x: Tensor) -> Any:
        net.calls += 1
        if net.calls >= first and not behind:
            write(net)
        return net.lift(x) + net.table.weight.mean()

    def after(net: Any, x: Tensor, logits: Tensor) -> Any:
        if net.calls >= first and behind:
            write(net)
        return logits + net.lift(x).mean()

    return Net(init, change, after)


@SHARED
@pytest.mark.parametrize(
    ("write", "behind"), [*((write, False) for write in UNCHANGED), (renormed, True), (looked_up, True)]
)
@pytest.mark.parametrize("first", [1, 2, 4])
def test_what_is_written_may_be_what_was_there(
    write: Callable[[Any], None], first: int, behind: bool, share_noise: bool
) -> None:
    check_against_twin(lambda: unchanged(write, first, behind), share_noise=share_noise)


@pytest.mark.parametrize("write", UNCHANGED)
def test_weights_that_are_trained_and_written_unchanged_in_each_pass(write: Callable[[Any], None]) -> None:
    model, twin = twins(lambda: unchanged(write))
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, twin)]
    for x in inputs(6):
        forward = functools.partial(model, x)
        recorded, base = recorded_base(model, forward)
        again = recorded.run(forward, {})
        assert torch.equal(base, again)
        (0.5 * base.sum() + 0.5 * again.sum()).backward()
        twin(x).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for parameter, same in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(parameter, same)


def test_a_late_write_is_known_once_it_was_found_unchanged() -> None:
    model, x = unchanged(clipped, first=5), inputs(1)[0]
    for _ in range(5):
        recorded_base(model, lambda: model(x))
    with torch.no_grad():
        model.lift.weight.fill_(200.0)
    recorded, base = recorded_base(model, lambda: model(x))
    assert model.lift.weight.max() == 100
    assert torch.equal(recorded.run(lambda: model(x), {}), base)


def check_refused_late(model: Net, parameter: str, passes: int) -> None:
    """The pass behind some others writes to a parameter, and is refused."""
    x = inputs(1)[0]
    for _ in range(passes):
        recorded_base(model, lambda: model(x))
    with refused("module", parameter, 3, "buffer"):
        recorded_base(model, lambda: model(x))


def test_a_late_write_to_a_weight_with_gaps_is_refused() -> None:
    model = unchanged(clipped, first=5)
    model.lift.weight.data = model.lift.weight.data.T
    check_refused_late(model, "lift.weight", 4)


def test_a_late_write_of_another_type_is_refused() -> None:
    def of_another_type(net: Any) -> None:
        net.spare.data = net.spare.data.double()

    model = unchanged(of_another_type, first=5)
    model.spare = nn.Parameter(torch.zeros(3))
    check_refused_late(model, "got spare", 4)


def test_nothing_takes_the_place_of_parameters_that_are_only_read() -> None:
    model, x = Net(), inputs(1)[0]
    for _ in range(5):
        state = ModuleState(model)
        model(x)
        state.check()
        with state.borrowed() as stand_ins:
            assert not stand_ins


def test_apply_leaves_the_graphs_that_have_saved_what_is_moved() -> None:
    model, x = unchanged(renormed), inputs(1)[0]
    for _ in range(5):
        output = model(x)
        with apply(model, {}):
            model(x)
        output.sum().backward()


def late(write: Callable[[Any], None], first: int) -> Net:
    def change(net: Any, x: Tensor) -> Any:
        net.calls += 1
        if net.calls >= first:
            write(net)
        moved: Tensor = net.lift(x) + net.teacher(x)
        return moved

    def init(net: Any) -> None:
        momentum(net)
        net.calls = 0

    return Net(init, change)


@pytest.mark.parametrize("write", [update, update_data, assign_data])
@pytest.mark.parametrize("first", [2, 3])
def test_a_write_that_is_not_the_first_pass_s(write: Callable[[Any], None], first: int) -> None:
    check_against_twin(lambda: late(write, first))


@pytest.mark.parametrize("write", [update, update_data, assign_data])
def test_the_first_write_in_a_late_pass_is_refused_by_name(write: Callable[[Any], None]) -> None:
    check_refused_late(late(write, first=6), "teacher.weight", 5)


def test_an_optimizer_may_write_between_passes() -> None:
    model, x = Net(), inputs(1)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        recorded, base = recorded_base(model, lambda: model(x))
        (base.sum() + recorded.run(lambda: model(x), {}).sum()).backward()
        optimizer.step()


def test_nan_is_no_write() -> None:
    model, x = Net(), inputs(1)[0]
    with torch.no_grad():
        model.lift.weight.fill_(torch.nan)
    for _ in range(5):
        recorded_base(model, lambda: model(x))


@pytest.mark.parametrize("write", [update, update_data, assign_data])
@pytest.mark.parametrize("place", [before_the_mask, behind_the_mask])
def test_apply_leaves_them(write: Callable[[Any], None], place: Callable[[Any], Net]) -> None:
    model, x = place(write), inputs(1)[0]
    before = [parameter.clone() for parameter in model.parameters()]
    masks = {site: site.ones(2) for site in find_sites(model)}
    outputs = []
    for _ in range(6):
        with apply(model, masks), torch.no_grad():
            outputs.append(model(x))
        assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    for output in outputs:
        torch.testing.assert_close(output, outputs[0])


def test_apply_refuses_a_late_write() -> None:
    model, x = late(update_data, first=1), inputs(1)[0]
    for _ in range(3):
        with apply(model, {}):
            pass
    with refused("teacher.weight"), apply(model, {}):
        model(x)
